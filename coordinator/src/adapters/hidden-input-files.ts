/**
 * Files that inputs are written into, each under a name that only its writer knows: its job's name is a second one, which it gets when it is whole. A file whose job is over is written again
 * for the next: to make one, to find memory for it and to remove it takes twice as long as to write over one (docs/decisions/0019-input-files-written-again.md).
 */

import { closeSync, fstatSync, ftruncateSync, openSync, unlinkSync, writevSync } from "node:fs";
import path from "node:path";
import { inputFileModes, isKnownWhole, sizeOf } from "@switchyard/protocol";
import { newIncarnation } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";

const prefix = "hidden-";
/** As much as stays of what is over; see local-input-files.ts. */
const mostBytes = 64 * 1024 * 1024;
/** Under load the next job comes at once; nobody needs one that nobody took. */
const keptMs = 2_500;
/** The system writes a file to the disk that has had something unwritten for half a minute, however often it was written over. */
const mostAgeMs = 20_000;

export interface HiddenFile {
  name: string;
  sizeBytes: number;
  /** By the monotonic clock. */
  madeMs: number;
}

export const isHidden = (name: string): boolean => name.startsWith(prefix);

export class HiddenInputFiles {
  readonly #clock: Clock;
  readonly #incarnation = newIncarnation();
  #made = 0;
  /** The latest is the last: its memory may still be in the processor's cache. */
  #spare: { file: HiddenFile; sinceMs: number }[] = [];
  #spareBytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** One that holds the frame: one that is spare, or else a new one in that folder. Nothing is left when this throws. */
  filled(folder: string, frame: readonly Uint8Array[]): HiddenFile {
    const sizeBytes = sizeOf(frame);
    const spare = this.#take();
    if (spare) {
      try {
        fill(openSync(spare.name, "r+"), frame, spare.sizeBytes);
        return { ...spare, sizeBytes };
      } catch {
        removeNow(spare.name); // somebody took it away, or changed it: a new one does as well
      }
    }
    const name = path.join(folder, `${prefix}${this.#incarnation}-${this.#made++}`);
    const handle = openSync(name, "wx", inputFileModes.written);
    try {
      fill(handle, frame, 0);
    } catch (error) {
      removeNow(name);
      throw error;
    }
    return { name, sizeBytes, madeMs: this.#clock.monotonicMs() };
  }

  #take(): HiddenFile | undefined {
    const file = this.#spare.pop()?.file;
    if (file) this.#spareBytes -= file.sizeBytes;
    return file;
  }

  /** It has no other name any more, and may be written again. Removes what there is no room for, or no time. */
  putAside(file: HiddenFile): void {
    const nowMs = this.#clock.monotonicMs();
    if (file.sizeBytes > mostBytes || nowMs - file.madeMs > mostAgeMs) {
      removeNow(file.name);
      return;
    }
    this.#spare.push({ file, sinceMs: nowMs });
    this.#spareBytes += file.sizeBytes;
    let count = 0;
    for (let left = this.#spareBytes; left > mostBytes; count++) left -= this.#spare[count]!.file.sizeBytes;
    this.#removeOldest(count);
  }

  /** Removes those that nobody took for a while. */
  letGo(): void {
    const sinceMs = this.#clock.monotonicMs() - keptMs;
    const count = this.#spare.findIndex((spare) => spare.sinceMs > sinceMs);
    this.#removeOldest(count === -1 ? this.#spare.length : count);
  }

  letAllGo(): void {
    this.#removeOldest(this.#spare.length);
  }

  #removeOldest(count: number): void {
    for (const { file } of count === 0 ? [] : this.#spare.splice(0, count)) {
      this.#spareBytes -= file.sizeBytes;
      removeNow(file.name);
    }
  }
}

/** Writes over what the file holds, whose size is told, and closes it. Throws for one that is said to be whole: it was taken for one left behind. */
function fill(handle: number, frame: readonly Uint8Array[], sizeBytes: number): void {
  try {
    if (isKnownWhole(fstatSync(handle).mode)) throw new Error("it is another's now");
    writeWhole(handle, frame);
    if (sizeBytes > sizeOf(frame)) ftruncateSync(handle, sizeOf(frame));
  } finally {
    closeSync(handle);
  }
}

function writeWhole(handle: number, frame: readonly Uint8Array[]): void {
  let left = frame.filter(({ length }) => length > 0);
  while (left.length > 0) {
    let written = writevSync(handle, left);
    if (written === 0) throw new Error("the disk took nothing");
    const rest: Uint8Array[] = [];
    for (const part of left) {
      if (written < part.length) rest.push(part.subarray(written));
      written = Math.max(0, written - part.length);
    }
    left = rest;
  }
}

/** Answers whether it is gone. */
export function removeNow(file: string): boolean {
  try {
    unlinkSync(file);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT"; // else it is the sweep's
  }
}
