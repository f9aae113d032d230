/** Files that say by their mode that they are whole on the disk. */

import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { inputFileModes } from "@switchyard/protocol";
import { orGone } from "./unfinished-files.ts";

/** So many are open at once: a name may get another file meanwhile. */
const openTogether = 64;
const syncedTogether = 8;

/**
 * Syncs those that are there, in folders of `root`. None says that it is whole before all its bytes are on the disk, nor while an earlier name of it might come back after a power cut. The first
 * failure is thrown when all others are done.
 */
export async function makeWhole(names: readonly string[], root: string): Promise<void> {
  const trouble: unknown[] = [];
  for (let at = 0; at < names.length; at += openTogether) {
    const some = names.slice(at, at + openTogether);
    const files: FileHandle[] = [];
    await each(some, async (name) => void files.push(...[await orGone(open(name))].filter((file) => file !== undefined)), trouble);
    try {
      const synced = await each(files, (file) => file.datasync(), trouble);
      const folders = new Set([...some.map((name) => path.dirname(name)), root]);
      if ((await each([...folders], syncFolder, trouble)).length < folders.size) continue;
      await each(synced, (file) => file.chmod(inputFileModes.whole).then(() => file.sync()), trouble);
    } finally {
      await Promise.all(files.map((file) => file.close()));
    }
  }
  if (trouble.length > 0) throw trouble[0];
}

async function syncFolder(name: string): Promise<void> {
  const folder = await orGone(open(name));
  await folder?.sync().finally(() => folder.close());
}

/** Answers those with which it went well. */
async function each<T>(of: readonly T[], act: (one: T) => Promise<void>, trouble: unknown[]): Promise<T[]> {
  const well: T[] = [];
  for (let at = 0; at < of.length; at += syncedTogether) {
    const some = of.slice(at, at + syncedTogether);
    const settled = await Promise.allSettled(some.map(act));
    for (const [index, result] of settled.entries()) {
      if (result.status === "fulfilled") well.push(some[index]!);
      else trouble.push(result.reason);
    }
  }
  return well;
}
