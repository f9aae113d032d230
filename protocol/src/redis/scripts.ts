/** Puts a Lua script together with the fragments it includes. Pure: the caller reads the files. */

import { createHash } from "node:crypto";

export interface Script {
  name: string;
  source: string;
  sha: string;
}

export const scriptNames = [
  "admit",
  "watch",
  "mark",
  "take",
  "renew",
  "claim",
  "commit",
  "release",
  "expire",
  "cancel",
  "keep",
  "discard",
  "forget",
  "take-back",
  "return-claim",
  "sweep",
  "heartbeat",
  "lose",
  "report",
  "cache-ask",
  "cache-settle",
  "put-entry",
] as const;

export type ScriptName = (typeof scriptNames)[number];

const includes = /^ *-- @include (.+)$/gm;
/** What stands alone at the top of a fragment, with the comment above it: a function to its `end`, or constants on one line. */
const definitions = /(?:^--.*\n)*^local (?:function (?<name>\w+)\([\s\S]*?^end$|(?<names>\w+(?:, \w+)*) = .+$)/gm;

/** Fragments without the definitions that neither they nor `body` use: Redis makes each function of a script anew whenever the script is called. */
function withoutUnused(fragments: ReadonlyMap<string, string>, body: string): Map<string, string> {
  let kept = new Map(fragments);
  for (;;) {
    const code = [body, ...kept.values()].join("\n").replaceAll(/^ *--.*$/gm, "");
    const uses = Map.groupBy(code.match(/\w+/g) ?? [], (word) => word);
    const isUsed = (name: string, definition: string): boolean => {
      const own = definition.replaceAll(/^ *--.*$/gm, "").match(/\w+/g) ?? [];
      return (uses.get(name)?.length ?? 0) > own.filter((word) => word === name).length;
    };
    const shorter = new Map(
      [...kept].map(([file, text]) => [
        file,
        text.replaceAll(definitions, (definition: string, ...rest) => {
          const { name, names } = rest.at(-1) as { name?: string; names?: string };
          const defined = name === undefined ? names!.split(", ") : [name];
          return defined.some((one) => isUsed(one, definition)) ? definition : "";
        }),
      ]),
    );
    if ([...kept].every(([file, text]) => shorter.get(file) === text)) return kept;
    kept = shorter;
  }
}

/**
 * `read(file)` gives the text of a file of `protocol/src/lua/`. Where a script includes fragments their text stands, as far as it is used. The `#!lua` line
 * makes Redis ≥ 7 refuse a script at the door when memory is full, instead of in the middle; scripts that free memory or end jobs say
 * `Flags: allow-oom` in their header and always pass.
 */
export function assembleScript(name: ScriptName, read: (file: string) => string): Script {
  const body = read(`${name}.lua`);
  const flags = /^-- Flags: (.+)$/m.exec(body)?.[1];
  const filesOf = (line: string): string[] => line.trim().split(/\s+/);
  const files = [...body.matchAll(includes)].flatMap(([, line]) => filesOf(line!));
  const fragments = withoutUnused(new Map(files.map((file) => [file, read(file)])), body.replaceAll(includes, ""));
  const source = [
    flags ? `#!lua flags=${flags.trim()}` : "#!lua",
    body.replaceAll(includes, (_line, line: string) =>
      filesOf(line)
        .map((file) => fragments.get(file))
        .join("\n"),
    ),
  ].join("\n");
  return { name, source, sha: createHash("sha1").update(source).digest("hex") };
}
