/** Which script a command runs, by its digest: ours by the names of their files, BullMQ's by theirs. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { assembleScript, scriptNames } from "@switchyard/protocol/redis";

const sources = new URL("../../../protocol/src/lua/", import.meta.url);
const bullmq = createRequire(import.meta.url)("bullmq/dist/cjs/scripts/index.js") as Record<string, { name: string; content: string }>;
const names = new Map([
  ...scriptNames.map((name) => [assembleScript(name, (file) => readFileSync(new URL(file, sources), "utf8")).sha, name as string] as const),
  ...Object.values(bullmq).map(({ name, content }) => [createHash("sha1").update(content).digest("hex"), `bullmq ${name}`] as const),
]);

/** Nothing where it is no script. */
export function scriptOf([command = "", digest = ""]: readonly string[]): string | undefined {
  if (!/^evalsha$/i.test(command)) return undefined;
  return names.get(digest) ?? "another script";
}
