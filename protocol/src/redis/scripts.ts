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

/**
 * `read(file)` gives the text of a file of `protocol/src/lua/`. The `#!lua` line makes Redis ≥ 7 refuse a script at the door when memory is
 * full, instead of in the middle; scripts that free memory or end jobs say `Flags: allow-oom` in their header and always pass.
 */
export function assembleScript(name: ScriptName, read: (file: string) => string): Script {
  const body = read(`${name}.lua`);
  const flags = /^-- Flags: (.+)$/m.exec(body)?.[1];
  const source = [
    flags ? `#!lua flags=${flags.trim()}` : "#!lua",
    body.replace(/^-- @include (.+)$/m, (_line, files: string) =>
      files
        .trim()
        .split(/\s+/)
        .map((file) => read(file))
        .join("\n"),
    ),
  ].join("\n");
  return { name, source, sha: createHash("sha1").update(source).digest("hex") };
}
