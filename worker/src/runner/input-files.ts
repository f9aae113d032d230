/** Inputs that coordinators left as files, see protocol/src/input-file.ts. Only they write and remove them. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { type InputFileReference, inputFilesFolder } from "@switchyard/protocol";

export class InputFiles {
  readonly #root: string;

  /** `blobsFolder`: the coordinators' folder, as far as this host sees it. */
  constructor(blobsFolder: string) {
    this.#root = path.join(blobsFolder, inputFilesFolder);
  }

  /**
   * The frame, or undefined when it is gone or not whole. Reads at once: the thread has nothing else to do, and each way through the pool of threads takes
   * longer than the file, which mostly never left the memory.
   */
  read(jobId: string, { folder, sizeBytes }: InputFileReference): Uint8Array | undefined {
    let file: number;
    try {
      file = openSync(path.join(this.#root, folder, jobId), "r");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTDIR") return undefined;
      throw error;
    }
    try {
      // a machine that lost its power may have kept the name, and not all of the bytes
      if (fstatSync(file).size !== sizeBytes) return undefined;
      const bytes = new Uint8Array(sizeBytes);
      for (let at = 0; at < sizeBytes; ) {
        const count = readSync(file, bytes, at, sizeBytes - at, at);
        if (count === 0) return undefined;
        at += count;
      }
      return bytes;
    } finally {
      closeSync(file);
    }
  }
}
