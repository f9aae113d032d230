/**
 * Inputs as files in a folder on this machine. Owns the calls to the file system; whether files are used, which are swept and which moved is input-file-keeper's.
 * Writes and removals are synchronous: they end in the system's memory, and each way through the pool of threads costs more than they do.
 */

import { closeSync, openSync, unlinkSync, writevSync } from "node:fs";
import { lstat, mkdir, open, readdir, rmdir, stat, statfs, unlink } from "node:fs/promises";
import path from "node:path";
import {
  type InputFileReference,
  inputFilesFolder,
  inputFolderPattern,
  isLocalDisk,
  type JobState,
  PassingMap,
  sizeOf,
} from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { InputFiles } from "../ports/input-files.ts";
import { entries, orGone } from "./unfinished-files.ts";

/** A file that was written so lately may be gone before a sync of it would have paid. */
const syncAfterMs = 500;

export interface DiskState {
  isLocal: boolean;
  freeBytes: number;
  totalBytes: number;
}

export class LocalInputFiles implements InputFiles {
  readonly #root: string;
  readonly #clock: Clock;
  /** The cluster's folder while files may be written. */
  #folder: string | undefined;
  /** Files of jobs whose end this process has not heard of. */
  readonly #open = new PassingMap<string, InputFileReference & { held: boolean }>();
  #unsynced: { jobId: string; writtenMs: number }[] = [];
  #failed: Error | undefined;

  /** `blobsFolder`: the coordinators' folder of large values. */
  constructor(parts: { blobsFolder: string; clock: Clock }) {
    this.#root = path.join(parts.blobsFolder, inputFilesFolder);
    this.#clock = parts.clock;
  }

  /** From now on files are written, into that folder, which is made; nothing: they are not. */
  async use(folder: string | undefined): Promise<void> {
    if (folder !== undefined && this.#folder !== folder) await mkdir(path.join(this.#root, folder), { recursive: true, mode: 0o700 });
    this.#folder = folder;
  }

  write({ id: jobId, held }: { id: string; held: boolean }, frame: readonly Uint8Array[]): InputFileReference | undefined {
    const folder = this.#folder;
    if (folder === undefined) return undefined;
    const file = path.join(this.#root, folder, jobId);
    let made = false;
    try {
      const handle = openSync(file, "wx", 0o600);
      made = true;
      try {
        writeWhole(handle, frame);
      } finally {
        closeSync(handle);
      }
    } catch (error) {
      if (made) removeNow(file);
      // one that is there belongs to an admission of the same job, whose answer was lost or is still to come
      else if ((error as NodeJS.ErrnoException).code === "EEXIST") return undefined;
      this.#failed = error as Error;
      this.#folder = undefined; // the next look finds out whether it can be used
      return undefined;
    }
    const reference = { folder, sizeBytes: sizeOf(frame) };
    this.#open.set(jobId, { ...reference, held });
    this.#unsynced.push({ jobId, writtenMs: this.#clock.monotonicMs() });
    return reference;
  }

  refused(jobId: string): void {
    const reference = this.#open.get(jobId);
    if (reference === undefined) return;
    this.#open.delete(jobId);
    removeNow(this.#file(jobId, reference));
  }

  /** What may be a dead letter's is left to the sweep. */
  ended(jobId: string, state: JobState): void {
    if (state === "failed" && this.#open.get(jobId)?.held === false) this.#open.delete(jobId);
    else this.refused(jobId);
  }

  async read(jobId: string, reference: InputFileReference, bytes = reference.sizeBytes): Promise<Uint8Array | undefined> {
    const file = await orGone(open(this.#file(jobId, reference)));
    if (!file) return undefined;
    try {
      if ((await file.stat()).size !== reference.sizeBytes) return undefined;
      const read = new Uint8Array(Math.min(bytes, reference.sizeBytes));
      for (let at = 0; at < read.length; ) {
        const { bytesRead } = await file.read(read, at, read.length - at, at);
        if (bytesRead === 0) return undefined;
        at += bytesRead;
      }
      return read;
    } finally {
      await file.close();
    }
  }

  /** No job that is under way has a file, as far as this process knows, and no write failed. */
  isIdle(): boolean {
    return this.#open.size === 0 && this.#failed === undefined;
  }

  /** Why a write failed since this was last asked. */
  takeFailure(): Error | undefined {
    const failed = this.#failed;
    this.#failed = undefined;
    return failed;
  }

  /** Of the disk on which the folder lies. */
  async disk(): Promise<DiskState> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    const { bavail, blocks, bsize, type } = await statfs(this.#root);
    return { isLocal: isLocalDisk(type), freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  }

  /** Brings to the disk what was written a while ago and is still there. To be called once a second: a power cut takes no more than that. */
  async sync(): Promise<void> {
    const untilMs = this.#clock.monotonicMs() - syncAfterMs;
    let due = this.#unsynced.findIndex(({ writtenMs }) => writtenMs > untilMs);
    if (due === -1) due = this.#unsynced.length;
    const folders = new Set<string>();
    let trouble: unknown;
    for (const { jobId } of this.#unsynced.splice(0, due)) {
      const reference = this.#open.get(jobId);
      try {
        const file = reference && (await orGone(open(this.#file(jobId, reference))));
        if (!file) continue;
        await file.datasync().finally(() => file.close());
        folders.add(reference.folder);
      } catch (error) {
        trouble = error; // of one file: the others are none the worse for it
      }
    }
    for (const folder of folders) {
      const names = await orGone(open(path.join(this.#root, folder)));
      await names?.sync().finally(() => names.close());
    }
    if (trouble) throw trouble;
  }

  /** Jobs that have a file in that folder, written at least so long ago. */
  async jobs(folder: string, olderMs: number): Promise<string[]> {
    const untilMs = this.#clock.nowMs() - olderMs;
    const found: string[] = [];
    for (const jobId of await entries(path.join(this.#root, folder))) {
      const facts = await orGone(lstat(path.join(this.#root, folder, jobId)));
      if (facts && facts.mtimeMs <= untilMs) found.push(jobId);
    }
    return found;
  }

  /** Of any coordinator's job. */
  async drop(folder: string, jobId: string): Promise<void> {
    this.#open.delete(jobId);
    await orGone(unlink(path.join(this.#root, folder, jobId)));
  }

  /** Removes what other clusters, which are no more, have left: nothing in it is younger. Answers how many files. */
  async dropOthers(own: string, olderMs: number): Promise<number> {
    let dropped = 0;
    for (const folder of await entries(this.#root)) {
      if (folder === own || !inputFolderPattern.test(folder)) continue;
      const where = path.join(this.#root, folder);
      for (const jobId of await this.jobs(folder, olderMs)) {
        await orGone(unlink(path.join(where, jobId)));
        dropped++;
      }
      const facts = await orGone(stat(where));
      if (facts && facts.mtimeMs <= this.#clock.nowMs() - olderMs && (await readdir(where)).length === 0)
        await rmdir(where).catch(() => {});
    }
    return dropped;
  }

  #file(jobId: string, { folder }: InputFileReference): string {
    return path.join(this.#root, folder, jobId);
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

function removeNow(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // gone, or the sweep's
  }
}
