/** Inputs that coordinators left as files, see protocol/src/input-file.ts. Only they write and remove them. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { type InputFileReference, inputFilesFolder, readInputReference } from "@switchyard/protocol";
import { sightMark } from "@switchyard/protocol/redis";
import { seenFolder } from "../presence/seen-folder.ts";

/** A rare giant batch must not hold memory for good. */
const largestKeptBytes = 64 * 1024 * 1024;
const alignment = 8;

export class InputFiles {
  readonly #blobsFolder: string;
  readonly #root: string;
  /** In which the frames of a batch lie, one after the other. Memory that is new costs as much as the copy into it. */
  #memory = new Uint8Array();
  #used = 0;
  /** What this batch takes, whether it found room there or not. */
  #wanted = 0;

  /** `blobsFolder`: the coordinators' folder, as far as this host sees it. */
  constructor(blobsFolder: string) {
    this.#blobsFolder = blobsFolder;
    this.#root = path.join(blobsFolder, inputFilesFolder);
  }

  /** Whether the folder of a reference is the one that this host sees: then a file that is not there is nowhere. */
  async sees(stored: Uint8Array): Promise<boolean> {
    const reference = readInputReference(stored);
    const sight = await seenFolder(this.#blobsFolder).catch(() => undefined);
    return reference?.kind === "file" && sight !== undefined && reference.sight === sightMark(sight);
  }

  /** A new batch begins: frames that were read before are over. */
  reuse(): void {
    if (this.#wanted > this.#memory.length && this.#wanted <= largestKeptBytes) this.#memory = new Uint8Array(this.#wanted);
    this.#used = 0;
    this.#wanted = 0;
  }

  #room(sizeBytes: number): Uint8Array {
    const end = this.#used + sizeBytes;
    this.#wanted += Math.ceil(sizeBytes / alignment) * alignment;
    if (end > this.#memory.length) return new Uint8Array(sizeBytes);
    const room = this.#memory.subarray(this.#used, end);
    this.#used = Math.ceil(end / alignment) * alignment;
    return room;
  }

  /**
   * The frame, at an 8-byte aligned address and until the next batch, or undefined when it is gone or not whole. Reads at once: the thread has
   * nothing else to do, and each way through the pool of threads takes longer than the file, which mostly never left the memory.
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
      const bytes = this.#room(sizeBytes);
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
