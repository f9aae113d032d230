/** Inputs that coordinators left as files, see protocol/src/input-file.ts. Only they write and remove them. */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import path from "node:path";
import { type InputFileReference, inputFilesFolder, readInputReference } from "@switchyard/protocol";
import { sightMark } from "@switchyard/protocol/redis";
import { seenFolder } from "../presence/seen-folder.ts";

/** A rare giant batch must not hold memory for good. */
const largestKeptBytes = 64 * 1024 * 1024;
const alignment = 8;

/** In which the frames of one batch lie, one after the other. Memory that is new costs as much as the copy into it. */
export class FrameMemory {
  #bytes = new Uint8Array();
  #used = 0;
  /** What this batch takes, whether it found room there or not. */
  #wanted = 0;

  /** A batch begins: nobody looks at the frames that lay here. */
  reuse(): void {
    if (this.#wanted > this.#bytes.length && this.#wanted <= largestKeptBytes) this.#bytes = new Uint8Array(this.#wanted);
    this.#used = 0;
    this.#wanted = 0;
  }

  /** At an 8-byte aligned address. */
  room(sizeBytes: number): Uint8Array {
    const end = this.#used + sizeBytes;
    this.#wanted += Math.ceil(sizeBytes / alignment) * alignment;
    if (end > this.#bytes.length) return new Uint8Array(sizeBytes);
    const room = this.#bytes.subarray(this.#used, end);
    this.#used = Math.ceil(end / alignment) * alignment;
    return room;
  }
}

export class InputFiles {
  readonly #blobsFolder: string;
  readonly #root: string;

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

  /**
   * The frame, in the memory of its batch, or undefined when it is gone or not whole. Reads at once: each way through the pool of threads takes longer than the
   * file, which mostly never left the memory.
   */
  read(jobId: string, { folder, sizeBytes }: InputFileReference, memory: FrameMemory): Uint8Array | undefined {
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
      const bytes = memory.room(sizeBytes);
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
