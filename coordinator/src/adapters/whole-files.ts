/** Files that say by their mode that they are whole on the disk. */

import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { inputFileModes } from "@switchyard/protocol";
import { orGone } from "./unfinished-files.ts";

const syncedTogether = 8;

export interface Outcome {
  /** Those for which it may go well the next time. */
  again: string[];
  trouble: unknown[];
}

/**
 * Syncs those that are there, in folders of `root`; all are open at once, since a name may get another file meanwhile. None says that it is whole before all its bytes are on the disk, nor while an
 * earlier name of it might come back after a power cut. Where bytes could not be brought there nobody can tell what is: the system says so once, and then takes them for written. Such a file says so for good.
 */
export async function makeWhole(names: readonly string[], root: string): Promise<Outcome> {
  const trouble: unknown[] = [];
  const files = new Map<string, FileHandle>();
  const opened = await each(
    names,
    async (name) => {
      const file = await orGone(open(name));
      if (file) files.set(name, file);
    },
    trouble,
  );
  try {
    const there = opened.filter((name) => files.has(name));
    const synced = await each(there, (name) => files.get(name)!.datasync(), trouble);
    const unsure = there.filter((name) => !synced.includes(name));
    await each(unsure, (name) => files.get(name)!.chmod(inputFileModes.unsure), trouble);
    const folders = [...new Set([...names.map((name) => path.dirname(name)), root])];
    const areFoldersSynced = (await each(folders, syncFolder, trouble)).length === folders.length;
    const whole = areFoldersSynced ? await each(synced, (name) => sayWhole(files.get(name)!), trouble) : [];
    const over = new Set([...whole, ...unsure, ...opened.filter((name) => !files.has(name))]);
    return { again: names.filter((name) => !over.has(name)), trouble };
  } finally {
    await Promise.all([...files.values()].map((file) => file.close()));
  }
}

async function sayWhole(file: FileHandle): Promise<void> {
  await file.chmod(inputFileModes.whole);
  await file.sync();
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
