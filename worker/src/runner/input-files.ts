/** Inputs that coordinators left as files, see protocol/src/input-file.ts. Only they write and remove them. */

import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import path from "node:path";
import { type InputFileReference, inputFilesFolder, isKnownWhole, readInputReference } from "@switchyard/protocol";
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
  /** How this host saw the folder when it last looked. */
  #sight: string | undefined;

  /** `blobsFolder`: the coordinators' folder, as far as this host sees it. */
  constructor(blobsFolder: string) {
    this.#blobsFolder = blobsFolder;
    this.#root = path.join(blobsFolder, inputFilesFolder);
  }

  /** Whether the folder of a reference is the one that this host sees: then a file that is not there is nowhere. */
  async sees(stored: Uint8Array): Promise<boolean> {
    const reference = readInputReference(stored);
    return reference?.kind === "file" && this.#isSeen(reference);
  }

  /** Since this machine started. */
  async #isSeen({ sight }: InputFileReference): Promise<boolean> {
    if (sight === this.#sight) return true;
    const seen = await seenFolder(this.#blobsFolder).catch(() => undefined);
    this.#sight = seen && sightMark(seen);
    return sight === this.#sight;
  }

  /**
   * The frame, in the memory of its batch, or undefined when it is gone or not whole. Reads at once: each way through the pool of threads takes longer than the
   * file, which mostly never left the memory.
   */
  async read(jobId: string, reference: InputFileReference, memory: FrameMemory): Promise<Uint8Array | undefined> {
    const { folder, sight } = reference;
    const name = path.join(this.#root, folder, jobId);
    const isOfThisStart = sight === this.#sight || (await this.#isSeen(reference));
    try {
      return readWhole(name, reference, { isOfThisStart, memory });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTDIR") return undefined;
      throw error;
    }
  }
}

function readWhole(
  name: string,
  { sizeBytes }: InputFileReference,
  { isOfThisStart, memory }: { isOfThisStart: boolean; memory: FrameMemory },
): Uint8Array | undefined {
  const file = openSync(name, "r");
  try {
    const { ino, mode, size } = fstatSync(file);
    // a machine that lost its power may have kept the name, and not all of the bytes
    if (size !== sizeBytes || !(isOfThisStart || isKnownWhole(mode))) return undefined;
    const bytes = memory.room(sizeBytes);
    for (let at = 0; at < sizeBytes; ) {
      const count = readSync(file, bytes, at, sizeBytes - at, at);
      if (count === 0) return undefined;
      at += count;
    }
    // its job may be over, and what was read another's
    return statSync(name).ino === ino ? bytes : undefined;
  } finally {
    closeSync(file);
  }
}
