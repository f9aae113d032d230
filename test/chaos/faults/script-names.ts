/** Which script a command runs, by its digest: ours by name, BullMQ's by the keys that they touch. */

import { readFileSync } from "node:fs";
import { assembleScript, bullPrefix, scriptNames } from "@switchyard/protocol/redis";

const sources = new URL("../../../protocol/src/lua/", import.meta.url);
const names = new Map(
  scriptNames.map((name) => [assembleScript(name, (file) => readFileSync(new URL(file, sources), "utf8")).sha, name as string]),
);

/** Nothing where it is no script. */
export function scriptOf([command = "", digest = "", , key = ""]: readonly string[]): string | undefined {
  if (!/^evalsha$/i.test(command)) return undefined;
  return names.get(digest) ?? (key.startsWith(bullPrefix) ? "bullmq" : "another script");
}
