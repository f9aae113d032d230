/**
 * Inputs as files in a folder on this machine. Owns the calls to the file system; whether files are used, which are swept and which moved is input-file-keeper's.
 * Writes and removals are synchronous: they end in the system's memory, and each way through the pool of threads costs more than they do.
 */

import { linkSync } from "node:fs";
import { lstat, mkdir, open, readdir, readFile, rmdir, stat, statfs, unlink } from "node:fs/promises";
import path from "node:path";
import {
  blobFolderIdFile,
  bootIdFile,
  type InputFileReference,
  inputFilesFolder,
  inputFolderPattern,
  isKnownWhole,
  isLocalDisk,
  isUnsynced,
  type JobState,
  PassingMap,
  sightOfFolder,
  sizeOf,
} from "@switchyard/protocol";
import { jobIdPattern, sightMark } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { InputFiles } from "../ports/input-files.ts";
import { type HiddenFile, HiddenInputFiles, isHidden, removeNow } from "./hidden-input-files.ts";
import { entries, orGone } from "./unfinished-files.ts";
import { makeWhole } from "./whole-files.ts";

/** A file that was written so lately may be over before a sync of it would have paid. */
const syncAfterMs = 500;
/** So many files are open at once. */
const syncedInOneGo = 64;
const adoptedInOneGo = 256;
/** A store that ends without having written its file may have lost the end of a job: so long after it the job could be run again. */
const lingerMs = 2_500;
/** What ends beside so many goes at once: its memory is still in the processor's cache when the next file is written. */
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
  /** By which it may be written again when its job is over. */
  hidden: HiddenFile | undefined;
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
  readonly #hidden: HiddenInputFiles;
  /** Files of other processes' open jobs with which nothing is to be done any more. */
  #others = new Set<string>();
  #failed: Error | undefined;

  /** `blobsFolder`: the coordinators' folder of large values. */
  constructor(parts: { blobsFolder: string; clock: Clock }) {
    this.#blobsFolder = parts.blobsFolder;
    this.#root = path.join(parts.blobsFolder, inputFilesFolder);
    this.#clock = parts.clock;
    this.#hidden = new HiddenInputFiles(parts.clock);
  }

  /** From now on files are written, into that folder, which is made; nothing: they are not. `sight` as this class told it. */
  async use(place: { folder: string; sight: string } | undefined): Promise<void> {
    if (place && this.#place?.folder !== place.folder) await mkdir(path.join(this.#root, place.folder), { recursive: true, mode: 0o700 });
    this.#place = place && { folder: place.folder, sight: sightMark(place.sight) };
  }

  write({ id: jobId, held }: { id: string; held: boolean }, frame: readonly Uint8Array[]): InputFileReference | undefined {
    if (this.#place === undefined) return undefined;
    const place = this.#place;
    const beganMs = this.#clock.monotonicMs();
    let hidden: HiddenFile | undefined;
    try {
      hidden = this.#hidden.filled(path.join(this.#root, place.folder), frame);
      linkSync(hidden.name, path.join(this.#root, place.folder, jobId)); // from now on a reader finds it, whole; `rename` would replace one that is there
    } catch (error) {
      // one that is there belongs to an admission of the same job, whose answer was lost or is still to come
      const isThere = codeOf(error) === "EEXIST";
      if (hidden && isThere) this.#hidden.putAside(hidden);
      if (!isThere) {
        if (hidden) removeNow(hidden.name); // it may have got the other name all the same
        this.#fail(error as Error);
      }
      return undefined;
    }
    const writtenMs = this.#clock.monotonicMs();
    if (writtenMs - beganMs > slowWriteMs) this.#fail(new Error(`to write a file took ${Math.round(writtenMs - beganMs)} ms`));
    const file: OwnFile = { ...place, sizeBytes: sizeOf(frame), jobId, held, writtenMs, isOver: false, hidden };
    this.#open.set(jobId, file);
    this.#unsynced.push(file);
    return file;
  }

  /** It will not be written again. */
  #settle(file: OwnFile): OwnFile {
    if (file.hidden) removeNow(file.hidden.name);
    file.hidden = undefined;
    return file;
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
    if (file) this.#doubtful.push(this.#settle(file));
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
   * Takes the names of jobs that were over a while ago from their files. The store has answered since `answeringMs` ago: what ended before that it may have forgotten, and is
   * to be asked about.
   */
  letGo(answeringMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    let count = 0;
    for (const { endedMs, file } of this.#lingering) {
      if (endedMs > nowMs - lingerMs) break;
      if (endedMs < nowMs - answeringMs) this.#doubtful.push(this.#settle(file));
      else this.#leave(file);
      this.#lingeringBytes -= file.sizeBytes;
      count++;
    }
    if (count > 0) this.#lingering = this.#lingering.slice(count);
    this.#hidden.letGo();
  }

  /** Removes all files of jobs that are over, and those that might be written again. */
  letAllGo(): void {
    for (const { file } of this.#lingering) this.#leave(file);
    this.#lingering = [];
    this.#lingeringBytes = 0;
    this.#hidden.letAllGo();
  }

  /** A job of which it was heard that it is over, and that is not, or not any more. */
  reopen(file: OwnFile): void {
    file.isOver = false;
    this.#open.set(file.jobId, file);
    this.#unsynced.push(file);
  }

  /** Nobody needs it any more. Its job's name goes before a byte changes, so that who has opened it by that finds out. */
  #leave(file: OwnFile): void {
    file.isOver = true;
    const isGone = removeNow(this.#nameOf(file.jobId, file));
    if (!isGone || !file.hidden) return void this.#settle(file);
    this.#hidden.putAside(file.hidden);
    file.hidden = undefined;
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
      const { ino, mode, mtimeMs, size } = await file.stat();
      if (size !== reference.sizeBytes) return undefined;
      if (!isKnownWhole(mode) && !(isUnsynced(mode) && reference.sight === (await this.#mark()))) return undefined;
      const read = new Uint8Array(Math.min(bytes, reference.sizeBytes));
      for (let at = 0; at < read.length; ) {
        const { bytesRead } = await file.read(read, at, read.length - at, at);
        if (bytesRead === 0) return undefined;
        at += bytesRead;
      }
      // its job may be over, and what was read another's
      const now = await orGone(stat(name));
      return now?.ino === ino && now.mtimeMs === mtimeMs ? read : undefined;
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

  /** How references written now say it; undefined where the folder cannot be seen. */
  async #mark(): Promise<string | undefined> {
    const sight = await this.sight().catch(() => undefined);
    return sight && sightMark(sight);
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

  /**
   * Brings to the disk what was written a while ago and is still needed; `all`: and what was written since. To be called once a second: a power cut takes little more than
   * that. What may go well the next time is tried again.
   */
  async sync({ all = false } = {}): Promise<void> {
    const untilMs = this.#clock.monotonicMs() - (all ? 0 : syncAfterMs);
    let count = this.#unsynced.findIndex(({ writtenMs }) => writtenMs > untilMs);
    if (count === -1) count = this.#unsynced.length;
    const due = this.#unsynced.slice(0, count);
    this.#unsynced = this.#unsynced.slice(count);
    const trouble: unknown[] = [];
    for (let at = 0; at < due.length; at += syncedInOneGo) {
      const files = new Map<string, OwnFile>();
      for (const file of due.slice(at, at + syncedInOneGo)) if (!file.isOver) files.set(this.#nameOf(file.jobId, file), this.#settle(file));
      if (files.size === 0) continue;
      const outcome = await makeWhole([...files.keys()], this.#root);
      trouble.push(...outcome.trouble);
      this.#unsynced.push(...outcome.again.map((name) => files.get(name)!));
    }
    if (trouble.length > 0) throw trouble[0];
  }

  /**
   * As `sync`, for files that were written by a process that is no more, and have been there for so long. The jobs are open, and those are their references. Of many some at a time: call it again.
   */
  async adopt(jobs: readonly { jobId: string; reference: InputFileReference }[], olderMs: number): Promise<void> {
    const mark = await this.#mark();
    const foreign = jobs.filter(({ jobId, reference }) => reference.sight === mark && !this.#open.has(jobId));
    const seen = new Set<string>();
    const names: string[] = [];
    for (const { jobId, reference } of foreign) {
      const name = this.#nameOf(jobId, reference);
      const isSeen = this.#others.has(name);
      const facts = isSeen || names.length >= adoptedInOneGo ? undefined : await orGone(lstat(name));
      if (facts && isUnsynced(facts.mode)) {
        if (this.#clock.nowMs() - facts.mtimeMs >= olderMs) names.push(name);
      } else if (facts || isSeen) seen.add(name);
    }
    this.#others = seen;
    for (let at = 0; at < names.length; at += syncedInOneGo) {
      const { trouble } = await makeWhole(names.slice(at, at + syncedInOneGo), this.#root);
      if (trouble.length > 0) throw trouble[0];
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
    if (file) this.#settle(file).isOver = true;
    await orGone(unlink(path.join(this.#root, folder, jobId)));
  }

  /** What was open before `sinceMs`, by the monotonic clock, and is no more among those jobs' files, others have removed. */
  forgetGone(jobs: ReadonlySet<string>, sinceMs: number): void {
    for (const [jobId, file] of this.#open) {
      if (file.writtenMs >= sinceMs || jobs.has(jobId)) continue;
      this.#settle(file);
      this.#open.delete(jobId);
    }
  }

  /** Removes names of files that processes which died were writing or would have written again. */
  async dropHidden(folder: string, olderMs: number): Promise<void> {
    for (const name of await entries(path.join(this.#root, folder))) {
      if (!isHidden(name)) continue;
      const facts = await orGone(lstat(path.join(this.#root, folder, name)));
      if (facts && this.#clock.nowMs() - facts.mtimeMs >= olderMs) await orGone(unlink(path.join(this.#root, folder, name)));
    }
  }

  /** Removes what clusters that are no more have left: nothing in it is younger. */
  async dropOthers(own: string, olderMs: number): Promise<void> {
    for (const folder of await entries(this.#root)) {
      if (folder === own || !inputFolderPattern.test(folder)) continue;
      const where = path.join(this.#root, folder);
      for (const jobId of await this.jobs(folder)) {
        if (((await this.age(folder, jobId)) ?? 0) >= olderMs) await orGone(unlink(path.join(where, jobId)));
      }
      await this.dropHidden(folder, olderMs);
      const facts = await orGone(stat(where));
      if (facts && facts.mtimeMs <= this.#clock.nowMs() - olderMs && (await readdir(where)).length === 0)
        await rmdir(where).catch(() => {});
    }
  }

  #nameOf(jobId: string, { folder }: InputFileReference): string {
    return path.join(this.#root, folder, jobId);
  }
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;
