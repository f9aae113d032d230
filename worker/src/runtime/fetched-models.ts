/**
 * Uploaded versions on this machine's disk: one folder for each content, whatever models have it. Files come from the cluster's blob folder
 * where this host sees it, else from a coordinator; a download that was cut off goes on where it stopped. A folder gets its name when all of it
 * is on the disk, and loses it in one step; what nobody loads goes, oldest use first, when the room that is lent is needed.
 */

import { randomBytes } from "node:crypto";
import { mkdir, open, readdir, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isInnerPath, type ModelFileReference, type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";

/** Where files come from. */
export interface FileSource {
  /** Puts the file there, checked; goes on with what is there of it. Throws SwitchyardError, and what the disk says as it is. */
  fetch(file: ModelFileReference, path: string): Promise<void>;
}

interface Parts {
  /** Of this host alone or shared with other workers of the machine. */
  folder: string;
  hostId: string;
  /** That all fetched files may take, as far as the disk has it. */
  maxBytes: number;
  /** What the folder's disk has left for this process; asked of the system by default. */
  freeBytes?: () => Promise<number>;
  source: FileSource;
  clock: Pick<Clock, "nowMs">;
}

/** A folder in the folder. */
interface Kept {
  path: string;
  /** Of a whole one. */
  digest?: string;
  sizeBytes: number;
  /** Of a whole one: its last load here; of others the last change in it. */
  usedMs: number;
}

/** What nobody loaded for so long goes; it can be fetched again. */
const unusedMs = 7 * 86_400_000;
/** A fetch that brought nothing for so long has no host any more. */
const abandonedMs = 3_600_000;
/** A folder on its way out. */
const goneMark = "gone.";

export class FetchedModels {
  readonly #parts: Parts;
  readonly #fetching = new Map<string, Promise<string>>();
  /** Bytes that fetches under way will have taken. */
  readonly #promised = new Map<string, number>();
  /** Digests of what is loaded on this host; other workers of the machine read again what they lose. */
  #loaded: () => ReadonlySet<string> = () => new Set();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Answers the digests of versions whose files must stay. */
  keep(loaded: () => ReadonlySet<string>): void {
    this.#loaded = loaded;
  }

  /** The folder with the version's files. Calls for the same content share one fetch. Throws SwitchyardError `model_not_ready` with the reason. */
  folderOf({ digest, files = [] }: ModelVersion): Promise<string> {
    let fetching = this.#fetching.get(digest);
    if (!fetching) {
      fetching = this.#fetch(digest, files).finally(() => {
        this.#fetching.delete(digest);
        this.#promised.delete(digest);
      });
      this.#fetching.set(digest, fetching);
    }
    return fetching;
  }

  /** The content is not what it should be: it is fetched anew. */
  async discard({ digest }: ModelVersion): Promise<void> {
    await this.#remove(join(this.#parts.folder, digest));
  }

  async #fetch(digest: string, files: readonly ModelFileReference[]): Promise<string> {
    const { clock, folder } = this.#parts;
    const whole = join(folder, digest);
    try {
      const now = new Date(clock.nowMs());
      if (await isThere(utimes(whole, now, now))) return whole;
      const partial = this.#partial(digest);
      const sizeBytes = sum(files.map((file) => file.sizeBytes));
      await this.#makeRoom(digest, { sizeBytes, partial });
      // others fill the disk too, and the system may grant less than it says is free
      while (!(await hasRoomFor(() => this.#bring(files, { partial, whole })))) {
        if (await this.#letOldestGo()) continue;
        await this.#remove(partial); // whatever else lives on this disk needs the room
        throw notReady(`${folder} has no room for their ${sizeBytes} bytes, and what else is there is loaded or being fetched`);
      }
      return whole;
    } catch (error) {
      if (error instanceof SwitchyardError) throw notReady(`its files cannot be fetched: ${error.message}`);
      throw notReady(`its files cannot be kept in ${folder}: ${(error as Error).message}`);
    }
  }

  /** Goes on with what is there of them. */
  async #bring(files: readonly ModelFileReference[], { partial, whole }: { partial: string; whole: string }): Promise<void> {
    for (const file of files) {
      if (!isInnerPath(file.name)) throw notReady(`the registry names a file ${JSON.stringify(file.name)}, which lies outside its folder`);
      const path = join(partial, file.name);
      await mkdir(dirname(path), { recursive: true });
      await this.#parts.source.fetch(file, path);
    }
    // a name must not outlive the bytes behind it when the machine loses power
    await syncAll(partial);
    await rename(partial, whole).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      await this.#remove(partial); // another worker of this machine was quicker
    });
    await syncOne(this.#parts.folder);
  }

  /**
   * Lets go what is abandoned or unused, and then, oldest use first, what stands in the way of the limit or of what the disk has. Throws
   * `model_not_ready` when the limit is in the way still. What the disk has does not decide: files that are linked take nothing of it.
   */
  async #makeRoom(digest: string, { partial, sizeBytes }: { sizeBytes: number; partial: string }): Promise<void> {
    const { clock, maxBytes } = this.#parts;
    if (sizeBytes > maxBytes) {
      throw notReady(`they have ${sizeBytes} bytes, and this host keeps at most ${maxBytes} of fetched files; raise SWITCHYARD_FETCHED_MB`);
    }
    this.#promised.set(digest, sizeBytes);
    const nowMs = clock.nowMs();
    const found = await this.#kept();
    const kept = found.filter((one) => one.path !== partial);
    const isOwn = (path: string): boolean => [...this.#promised.keys()].some((other) => path === this.#partial(other));
    const promisedBytes = sum([...this.#promised.values()]);
    const toComeBytes = promisedBytes - sum(found.filter(({ path }) => isOwn(path)).map((one) => one.sizeBytes));
    let takenBytes = promisedBytes;
    for (const one of kept) if (!isOwn(one.path)) takenBytes += one.sizeBytes;
    for (const { digest: of, path, sizeBytes: freedBytes, usedMs } of kept) {
      const isUnused = of === undefined || usedMs + unusedMs < nowMs;
      const isInTheWay = isUnused || takenBytes > maxBytes || (await this.#freeBytes()) < toComeBytes;
      // asked at the last moment: a removal takes a while, and a load or a fetch may have begun meanwhile
      const isNeeded = of === undefined ? isOwn(path) || usedMs + abandonedMs > nowMs : this.#loaded().has(of);
      if (isNeeded || !isInTheWay) continue;
      await this.#remove(path);
      takenBytes -= freedBytes;
    }
    if (takenBytes <= maxBytes) return;
    this.#promised.delete(digest);
    const room = maxBytes - (takenBytes - sizeBytes);
    const taken = "the others are loaded or being fetched";
    throw notReady(`they have ${sizeBytes} bytes, and ${Math.max(0, room)} of ${maxBytes} are free: ${taken}; raise SWITCHYARD_FETCHED_MB`);
  }

  /** False when nothing is there that may go. */
  async #letOldestGo(): Promise<boolean> {
    for (const { digest, path } of await this.#kept()) {
      if (digest === undefined || this.#loaded().has(digest)) continue;
      await this.#remove(path);
      return true;
    }
    return false;
  }

  async #freeBytes(): Promise<number> {
    if (this.#parts.freeBytes) return this.#parts.freeBytes();
    const { bavail, bsize } = await statfs(this.#parts.folder);
    return bavail * bsize;
  }

  /** Where this host fetches it to. */
  #partial(digest: string): string {
    return join(this.#parts.folder, `${digest}.${this.#parts.hostId}`);
  }

  /** Oldest use first. */
  async #kept(): Promise<Kept[]> {
    const { folder } = this.#parts;
    await mkdir(folder, { recursive: true });
    const kept: Kept[] = [];
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const own = await stat(path).catch(() => undefined);
      if (!own) continue;
      const below = await Promise.all((await innerFiles(path)).map((file) => stat(file).catch(() => undefined)));
      const sizeBytes = sum(below.map((facts) => facts?.size ?? 0));
      // one on its way out belongs to nobody
      if (name.startsWith(goneMark)) kept.push({ path, sizeBytes, usedMs: Number.NEGATIVE_INFINITY });
      else if (name.includes("."))
        kept.push({ path, sizeBytes, usedMs: Math.max(own.mtimeMs, ...below.map((facts) => facts?.mtimeMs ?? 0)) });
      else kept.push({ path, digest: name, sizeBytes, usedMs: own.mtimeMs });
    }
    return kept.sort((one, other) => one.usedMs - other.usedMs);
  }

  /** Nobody finds half of it, also when this process dies on the way; what is left then goes with the next fetch. */
  async #remove(path: string): Promise<void> {
    const gone = join(this.#parts.folder, `${goneMark}${randomBytes(8).toString("hex")}`);
    await isThere(rename(path, gone));
    await rm(gone, { recursive: true, force: true });
  }
}

/** Whether the disk had room for what was done. */
async function hasRoomFor(act: () => Promise<void>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOSPC" || code === "EDQUOT") return false;
    throw error;
  }
}

/** False when what it is done to does not exist (any more). */
async function isThere(done: Promise<void>): Promise<boolean> {
  try {
    await done;
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function innerFiles(folder: string): Promise<string[]> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** Files first, then the folders that name them. */
async function syncAll(folder: string): Promise<void> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = (isFolder: boolean): string[] =>
    found.filter((entry) => entry.isDirectory() === isFolder).map((entry) => join(entry.parentPath, entry.name));
  for (const path of [...paths(false), ...paths(true), folder]) await syncOne(path);
}

async function syncOne(path: string): Promise<void> {
  const file = await open(path);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function notReady(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", detail);
}
