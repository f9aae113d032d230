/** Inputs that coordinators left as files, see protocol/src/input-file.ts. Only they write and remove them. */

import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import path from "node:path";
import { type InputFileReference, inputFilesFolder, isKnownWhole, isUnsynced, readInputReference } from "@switchyard/protocol";
import { areOfOneFolder, sightMark } from "@switchyard/protocol/redis";
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
  /** How this host saw the folder when it last looked, as references say it. */
  #mark: string | undefined;

  /** `blobsFolder`: the coordinators' folder, as far as this host sees it. */
  constructor(blobsFolder: string) {
    this.#blobsFolder = blobsFolder;
    this.#root = path.join(blobsFolder, inputFilesFolder);
  }

  /** Whether the folder of a reference is the one that this host sees: then a file that is not there is nowhere. */
  async sees(stored: Uint8Array): Promise<boolean> {
    const reference = readInputReference(stored);
    return reference?.kind === "file" && (await this.#look()) === reference.sight;
  }

  async #look(): Promise<string | undefined> {
    const seen = await seenFolder(this.#blobsFolder).catch(() => undefined);
    this.#mark = seen && sightMark(seen);
    return this.#mark;
  }

  /**
   * The frame, in the memory of its batch. Undefined when there is no such file, or another job's: the input may be elsewhere. Null when it is lost: there is a file that the
   * machine may have left half written when it lost its power. Reads at once: each way through the pool of threads takes longer than the file, which mostly never left the memory.
   */
  async read(jobId: string, reference: InputFileReference, memory: FrameMemory): Promise<Uint8Array | null | undefined> {
    const mark = reference.sight === this.#mark ? this.#mark : await this.#look();
    const name = path.join(this.#root, reference.folder, jobId);
    try {
      const file = openSync(name, "r");
      try {
        const { ino, mode, mtimeMs, size } = fstatSync(file);
        const isWhole = size === reference.sizeBytes && (isKnownWhole(mode) || (isUnsynced(mode) && mark === reference.sight));
        if (!isWhole) return mark !== undefined && mark !== reference.sight && areOfOneFolder(mark, reference.sight) ? null : undefined;
        const bytes = readAll(file, memory.room(size));
        // its job may be over, and what was read another's
        const now = statSync(name);
        return now.ino === ino && now.mtimeMs === mtimeMs ? bytes : undefined;
      } finally {
        closeSync(file);
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ENOTDIR") return undefined;
      throw error;
    }
  }
}

/** Fills `bytes`; undefined when the file ends before. */
function readAll(file: number, bytes: Uint8Array): Uint8Array | undefined {
  for (let at = 0; at < bytes.length; ) {
    const count = readSync(file, bytes, at, bytes.length - at, at);
    if (count === 0) return undefined;
    at += count;
  }
  return bytes;
}
