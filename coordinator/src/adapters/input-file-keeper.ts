/**
 * Tends the files in which coordinators hand over inputs: whether they are written now, that none outlives its job's inputs in Redis, and that they
 * move there when a host has come that does not see them.
 */

import { readInputReference } from "@switchyard/protocol";
import { keys, newIncarnation, tagOf } from "@switchyard/protocol/redis";
import type { Log } from "../ports/log.ts";
import type { LocalInputFiles } from "./local-input-files.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** One round in so many removes what jobs left behind, and is none of rest. */
const restRounds = 10;
/** What is younger may belong to a job whose admission is under way. */
const youngMs = 10_000;
/** Longer than any job lives with its inputs, as waiting one and as dead letter. */
const othersMs = 8 * 86_400_000;
/** Redis keeps its own file on a disk, often this one, and must not find it full. */
const leastFreeBytes = 1024 ** 3;
const leastFreeShare = 0.05;
/** Files stay where they are when the store is filled beyond this share. */
const mostFilled = 0.7;
/** Looked up together. */
const together = 256;

/** Whether hosts see the coordinators' folder. */
type Sight = "all" | "not_all" | "no_host";

const obstacles: Partial<Record<Sight, string>> = { not_all: "a host does not see the folder", no_host: "there is no host" };

interface Parts {
  redis: RedisConnection;
  files: LocalInputFiles;
  /** Id of the coordinators' folder of large values. */
  folderId: () => Promise<string>;
  /** Ids of the folders that living hosts see, a new set after each look at them. */
  seenFolders: () => ReadonlySet<string | undefined>;
  log: Log;
}

export class InputFileKeeper {
  readonly #parts: Parts;
  /** The cluster's, by its name. */
  #folder: string | undefined;
  #folderId: string | undefined;
  /** How hosts saw it at the last look. */
  #sight: Sight | undefined;
  #rounds = 0;
  /** Writes failed: until then none is tried. */
  #failed: { why: string; untilRound: number } | undefined;
  /** Jobs without inputs in Redis at the last sweep: at the next their files go. An admission may have been on its way at the first. */
  #suspects = new Set<string>();
  #told: string | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** To be called once a second. At rest only one call in so many looks. */
  async round(): Promise<void> {
    const { files, folderId } = this.#parts;
    this.#folderId ??= await folderId();
    const sight = this.#sightOf(this.#folderId);
    if (this.#rounds++ % restRounds !== 0 && files.isIdle() && sight === this.#sight) return;
    this.#sight = sight;
    this.#folder = await this.#clusterFolder();
    const why = obstacles[sight] ?? (await this.#obstacle());
    await files.use(why === undefined ? this.#folder : undefined);
    this.#tell(why);
    if (sight === "not_all") await this.#move(this.#folder);
    if (this.#rounds % restRounds === 1) await this.#sweep(this.#folder);
  }

  #sightOf(folderId: string): Sight {
    const seen = this.#parts.seenFolders();
    if (seen.size === 0) return "no_host";
    return seen.size === 1 && seen.has(folderId) ? "all" : "not_all";
  }

  /** The cluster's own; made by whichever coordinator finds none. */
  async #clusterFolder(): Promise<string> {
    const [, told] = await this.#parts.redis.sendAll([
      ["set", keys.inputFiles, this.#folder ?? newIncarnation().slice(0, 10), "nx"],
      ["get", keys.inputFiles],
    ]);
    return String(told);
  }

  /** Why no files are to be written now. */
  async #obstacle(): Promise<string | undefined> {
    const { files, redis } = this.#parts;
    if (redis.form !== "standalone") return "the store may be replaced by a server that knows less, and would ask for inputs again";
    const failure = files.takeFailure();
    if (failure) this.#failed = { why: failure.message, untilRound: this.#rounds + restRounds };
    if (this.#failed && this.#rounds < this.#failed.untilRound) return this.#failed.why;
    this.#failed = undefined;
    try {
      const { freeBytes, isLocal, totalBytes } = await files.disk();
      if (!isLocal) return "it is no local disk of a known kind";
      const least = Math.min(leastFreeBytes, totalBytes * leastFreeShare);
      return freeBytes < least ? "the disk is nearly full" : undefined;
    } catch (error) {
      return (error as Error).message;
    }
  }

  #tell(why: string | undefined): void {
    const told = why ?? "used";
    if (told === this.#told) return;
    this.#told = told;
    this.#parts.log.info("input_files", why === undefined ? { used: true } : { used: false, why });
  }

  async #sweep(folder: string): Promise<void> {
    const { files } = this.#parts;
    const suspects = new Set<string>();
    for (const { jobId, stored } of await this.#listed(folder, youngMs)) {
      if (stored.length > 0) continue;
      if (this.#suspects.has(jobId)) await files.drop(folder, jobId);
      else suspects.add(jobId);
    }
    this.#suspects = suspects;
    await files.dropOthers(folder, othersMs);
  }

  /** Into Redis, where every host finds them. A job that ends meanwhile is left as it is. */
  async #move(folder: string): Promise<void> {
    const { files, redis } = this.#parts;
    for (const { jobId, stored } of await this.#listed(folder, 0)) {
      if (redis.filled() > mostFilled) return;
      const reference = stored.length > 0 ? readInputReference(stored) : undefined;
      if (reference?.kind !== "file") continue;
      const frame = await files.read(jobId, reference);
      if (!frame) continue; // whoever claims the job says so
      await redis.sendAll([["set", keys.input(tagOf(jobId), jobId), frame, "xx", "keepttl"]]);
      await files.drop(folder, jobId);
    }
  }

  /** Jobs with a file that is at least so old, and how what Redis holds for them begins. */
  async #listed(folder: string, olderMs: number): Promise<{ jobId: string; stored: Uint8Array }[]> {
    const { files, redis } = this.#parts;
    const jobIds = await files.jobs(folder, olderMs);
    const listed: { jobId: string; stored: Uint8Array }[] = [];
    for (let from = 0; from < jobIds.length; from += together) {
      const some = jobIds.slice(from, from + together);
      const heads = await redis.sendAllRaw(some.map((jobId) => ["getrange", keys.input(tagOf(jobId), jobId), 0, 255]));
      for (const [at, jobId] of some.entries()) listed.push({ jobId, stored: heads[at] as Buffer });
    }
    return listed;
  }
}
