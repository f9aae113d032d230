/**
 * Inputs as files in a folder on this machine. Owns the calls to the file system; whether files are used, which are swept and which moved is input-file-keeper's.
 * Writes and removals are synchronous: they end in the system's memory, and each way through the pool of threads costs more than they do.
 */

import { closeSync, ftruncateSync, linkSync, openSync, unlinkSync, writevSync } from "node:fs";
import { lstat, mkdir, open, readdir, readFile, rmdir, stat, statfs, unlink } from "node:fs/promises";
import path from "node:path";
import {
  blobFolderIdFile,
  bootIdFile,
  type InputFileReference,
  inputFileModes,
  inputFilesFolder,
  inputFolderPattern,
  isKnownWhole,
  isLocalDisk,
  type JobState,
  PassingMap,
  sightOfFolder,
  sizeOf,
} from "@switchyard/protocol";
import { jobIdPattern, sightMark } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { InputFiles } from "../ports/input-files.ts";
import { type SpareFile, SpareInputFiles } from "./spare-input-files.ts";
import { entries, orGone } from "./unfinished-files.ts";

/** A file that was written so lately may be over before a sync of it would have paid. */
const syncAfterMs = 500;
const syncedTogether = 8;
/** A store that ends without having written its file may have lost the end of a job: so long after it the job could be run again. */
const lingerMs = 2_500;
/** What ends beside so many is removed at once: memory that is free again at once is still in the processor's cache when the next file is written. */
const mostLingeringBytes = 64 * 1024 * 1024;
/** A disk that takes longer for a file holds up all calls. */
const slowWriteMs = 200;

type Place = Pick<InputFileReference, "folder" | "sight">;

/** One that this process wrote. */
export interface OwnFile extends InputFileReference {
  jobId: string;
  held: boolean;
  writtenMs: number;
  isOver: boolean;
  /** A sync of it has begun. Then it says of itself that it is whole, and is not written again. */
  isSynced: boolean;
}

export interface DiskState {
  isLocal: boolean;
  freeBytes: number;
  totalBytes: number;
}

export class LocalInputFiles implements InputFiles {
  readonly #blobsFolder: string;
  readonly #root: string;
  readonly #clock: Clock;
  /** The cluster's folder while files may be written, and how it is seen. */
  #place: Place | undefined;
  /** Of jobs whose end this process has not heard of. */
  readonly #open = new PassingMap<string, OwnFile>();
  #unsynced: OwnFile[] = [];
  #doubtful: OwnFile[] = [];
  #lingering: { file: OwnFile; endedMs: number }[] = [];
  #lingeringBytes = 0;
  readonly #spare = new SpareInputFiles();
  #failed: Error | undefined;

  /** `blobsFolder`: the coordinators' folder of large values. */
  constructor(parts: { blobsFolder: string; clock: Clock }) {
    this.#blobsFolder = parts.blobsFolder;
    this.#root = path.join(parts.blobsFolder, inputFilesFolder);
    this.#clock = parts.clock;
  }

  /** From now on files are written, into that folder, which is made; nothing: they are not. `sight` as this class told it. */
  async use(place: { folder: string; sight: string } | undefined): Promise<void> {
    if (place && this.#place?.folder !== place.folder) await mkdir(path.join(this.#root, place.folder), { recursive: true, mode: 0o700 });
    this.#place = place && { folder: place.folder, sight: sightMark(place.sight) };
  }

  write({ id: jobId, held }: { id: string; held: boolean }, frame: readonly Uint8Array[]): InputFileReference | undefined {
    if (this.#place === undefined) return undefined;
    const place = this.#place;
    const name = path.join(this.#root, place.folder, jobId);
    const beganMs = this.#clock.monotonicMs();
    let made = false;
    try {
      const handle = this.#openFor(name, sizeOf(frame));
      made = true;
      try {
        writeWhole(handle, frame);
      } finally {
        closeSync(handle);
      }
    } catch (error) {
      if (made) removeNow(name);
      // one that is there belongs to an admission of the same job, whose answer was lost or is still to come
      else if (codeOf(error) === "EEXIST") return undefined;
      this.#fail(error as Error);
      return undefined;
    }
    const writtenMs = this.#clock.monotonicMs();
    if (writtenMs - beganMs > slowWriteMs) this.#fail(new Error(`to write a file took ${Math.round(writtenMs - beganMs)} ms`));
    const file: OwnFile = { ...place, sizeBytes: sizeOf(frame), jobId, held, writtenMs, isOver: false, isSynced: false };
    this.#open.set(jobId, file);
    this.#unsynced.push(file);
    return file;
  }

  /** Opens a file of that name which was not there, to be written from its beginning. Nothing is left of it when this throws. */
  #openFor(name: string, sizeBytes: number): number {
    const spare = this.#spare.take();
    if (spare !== undefined) {
      const handle = this.#reopen(spare, name, sizeBytes);
      if (handle !== undefined) return handle;
    }
    return openSync(name, "wx", inputFileModes.written);
  }

  /** The spare file under another name; undefined where that cannot be. */
  #reopen(spare: SpareFile, name: string, sizeBytes: number): number | undefined {
    try {
      linkSync(spare.name, name); // `rename` would replace one that is there
    } catch (error) {
      if (codeOf(error) !== "EEXIST") {
        removeNow(spare.name); // gone, or the file system has its limits: a new one does as well
        return undefined;
      }
      if (spare.name !== name) this.#putAside(spare);
      if (spare.name !== name && !this.#spare.forget(name)) throw error;
      removeNow(name); // the job's own, from when it was refused
      return undefined;
    }
    try {
      // before a byte changes, so that who has opened it by its old name finds out
      unlinkSync(spare.name);
      const handle = openSync(name, "r+");
      if (spare.sizeBytes !== sizeBytes) ftruncateSync(handle, sizeBytes);
      return handle;
    } catch {
      removeNow(name);
      return undefined;
    }
  }

  /** To be written again, or removed. */
  #putAside(spare: SpareFile): void {
    for (const { name } of this.#spare.put(spare, this.#clock.monotonicMs())) removeNow(name);
  }

  /** The next look finds out whether the folder can be used. */
  #fail(error: Error): void {
    this.#failed = error;
    this.#place = undefined;
  }

  #take(jobId: string): OwnFile | undefined {
    const file = this.#open.get(jobId);
    if (file) this.#open.delete(jobId);
    return file;
  }

  refused(jobId: string): void {
    const file = this.#take(jobId);
    if (file) this.#leave(file);
  }

  doubtful(jobId: string): void {
    const file = this.#take(jobId);
    if (file) this.#doubtful.push(file);
  }

  ended(jobId: string, state: JobState): void {
    const file = this.#open.get(jobId);
    if (!file) return;
    if (state === "failed" && !file.held) {
      this.doubtful(jobId);
      return;
    }
    this.#open.delete(jobId);
    file.isOver = true;
    if (this.#lingeringBytes + file.sizeBytes > mostLingeringBytes) {
      this.#leave(file);
      return;
    }
    this.#lingering.push({ file, endedMs: this.#clock.monotonicMs() });
    this.#lingeringBytes += file.sizeBytes;
  }

  /**
   * Removes files of jobs that were over a while ago. The store has answered since `answeringMs` ago: what ended before that it may have forgotten, and is
   * to be asked about.
   */
  letGo(answeringMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    let count = 0;
    for (const { endedMs, file } of this.#lingering) {
      if (endedMs > nowMs - lingerMs) break;
      if (endedMs < nowMs - answeringMs) this.#doubtful.push(file);
      else this.#leave(file);
      this.#lingeringBytes -= file.sizeBytes;
      count++;
    }
    if (count > 0) this.#lingering = this.#lingering.slice(count);
    for (const { name } of this.#spare.letGo(nowMs)) removeNow(name);
  }

  /** Removes all files of jobs that are over. */
  letAllGo(): void {
    for (const { file } of this.#lingering) this.#leave(file);
    this.#lingering = [];
    this.#lingeringBytes = 0;
    for (const { name } of this.#spare.letAllGo()) removeNow(name);
  }

  /** A job of which it was heard that it is over, and that is not, or not any more. */
  reopen(file: OwnFile): void {
    file.isOver = false;
    this.#open.set(file.jobId, file);
    if (!file.isSynced) this.#unsynced.push(file);
  }

  /** Nobody needs it any more. One that says of itself that it is whole must not be written again: a power cut might leave it so with half of the next job's input. */
  #leave(file: OwnFile): void {
    file.isOver = true;
    const name = this.#nameOf(file.jobId, file);
    if (file.isSynced) removeNow(name);
    else this.#putAside({ name, sizeBytes: file.sizeBytes });
  }

  /** Of jobs that the store has to be asked about: whether they still have their inputs. */
  takeDoubtful(): OwnFile[] {
    const doubtful = this.#doubtful;
    this.#doubtful = [];
    return doubtful;
  }

  async read(jobId: string, reference: InputFileReference, bytes = reference.sizeBytes): Promise<Uint8Array | undefined> {
    const name = this.#nameOf(jobId, reference);
    const file = await orGone(open(name));
    if (!file) return undefined;
    try {
      const { ino, mode, size } = await file.stat();
      if (size !== reference.sizeBytes) return undefined;
      if (!isKnownWhole(mode) && reference.sight !== sightMark(await this.sight())) return undefined;
      const read = new Uint8Array(Math.min(bytes, reference.sizeBytes));
      for (let at = 0; at < read.length; ) {
        const { bytesRead } = await file.read(read, at, read.length - at, at);
        if (bytesRead === 0) return undefined;
        at += bytesRead;
      }
      // it may have been written again meanwhile, for another job
      return (await orGone(stat(name)))?.ino === ino ? read : undefined;
    } finally {
      await file.close();
    }
  }

  /** No job that is under way has a file, as far as this process knows, and nothing is to be told or asked. */
  isIdle(): boolean {
    return this.#open.size === 0 && this.#doubtful.length === 0 && this.#failed === undefined;
  }

  /** Why a write failed since this was last asked. */
  takeFailure(): Error | undefined {
    const failed = this.#failed;
    this.#failed = undefined;
    return failed;
  }

  /** How a process on this machine sees the folder: what hosts tell that see the same one. The folder is made if it is not there. */
  async sight(): Promise<string> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 });
    const idFile = path.join(this.#blobsFolder, blobFolderIdFile);
    const [id, bootId, { dev, ino }] = await Promise.all([readFile(idFile, "utf8"), readFile(bootIdFile, "utf8"), stat(idFile)]);
    return sightOfFolder({ id, bootId, dev, ino });
  }

  /** Of the disk on which the folder lies. */
  async disk(): Promise<DiskState> {
    const { bavail, blocks, bsize, type } = await statfs(this.#root);
    return { isLocal: isLocalDisk(type), freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  }

  /** Brings to the disk what was written a while ago and is still needed. To be called once a second: a power cut takes little more than that. */
  async sync(): Promise<void> {
    const untilMs = this.#clock.monotonicMs() - syncAfterMs;
    let count = this.#unsynced.findIndex(({ writtenMs }) => writtenMs > untilMs);
    if (count === -1) count = this.#unsynced.length;
    const due = this.#unsynced.slice(0, count).filter(({ isOver }) => !isOver);
    this.#unsynced = this.#unsynced.slice(count);
    const trouble: unknown[] = [];
    for (let at = 0; at < due.length; at += syncedTogether) {
      const settled = await Promise.allSettled(due.slice(at, at + syncedTogether).map((file) => this.#syncOne(file)));
      for (const one of settled) if (one.status === "rejected") trouble.push(one.reason);
    }
    for (const folder of new Set(due.map((file) => file.folder))) {
      for (const name of [path.join(this.#root, folder), this.#root]) {
        const names = await orGone(open(name));
        await names?.sync().finally(() => names.close());
      }
    }
    if (trouble.length > 0) throw trouble[0];
  }

  async #syncOne(file: OwnFile): Promise<void> {
    if (file.isOver) return;
    file.isSynced = true;
    const handle = await orGone(open(this.#nameOf(file.jobId, file)));
    if (!handle) return;
    try {
      await handle.datasync();
      await handle.chmod(inputFileModes.whole); // not before its bytes are there
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /** Jobs that have a file in that folder. */
  async jobs(folder: string): Promise<string[]> {
    return (await entries(path.join(this.#root, folder))).filter((name) => jobIdPattern.test(name));
  }

  /** Milliseconds since the file was written; undefined when it is gone. */
  async age(folder: string, jobId: string): Promise<number | undefined> {
    const facts = await orGone(lstat(path.join(this.#root, folder, jobId)));
    return facts && this.#clock.nowMs() - facts.mtimeMs;
  }

  /** Of any coordinator's job. */
  async drop(folder: string, jobId: string): Promise<void> {
    const file = this.#take(jobId);
    if (file) file.isOver = true;
    await orGone(unlink(path.join(this.#root, folder, jobId)));
  }

  /** What was open before `sinceMs`, by the monotonic clock, and is no more among those jobs' files, others have removed. */
  forgetGone(jobs: ReadonlySet<string>, sinceMs: number): void {
    for (const [jobId, { writtenMs }] of this.#open) if (writtenMs < sinceMs && !jobs.has(jobId)) this.#open.delete(jobId);
  }

  /** Removes what clusters that are no more have left: nothing in it is younger. */
  async dropOthers(own: string, olderMs: number): Promise<void> {
    for (const folder of await entries(this.#root)) {
      if (folder === own || !inputFolderPattern.test(folder)) continue;
      const where = path.join(this.#root, folder);
      for (const jobId of await this.jobs(folder)) {
        if (((await this.age(folder, jobId)) ?? 0) >= olderMs) await orGone(unlink(path.join(where, jobId)));
      }
      const facts = await orGone(stat(where));
      if (facts && facts.mtimeMs <= this.#clock.nowMs() - olderMs && (await readdir(where)).length === 0)
        await rmdir(where).catch(() => {});
    }
  }

  #nameOf(jobId: string, { folder }: InputFileReference): string {
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

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

function removeNow(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // gone, or the sweep's
  }
}
