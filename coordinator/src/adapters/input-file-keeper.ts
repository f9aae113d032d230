/**
 * Tends the files in which coordinators hand over inputs: whether they are written now, that none outlives its job's inputs in Redis, and that
 * inputs of open jobs are in Redis, too, when a host has come that does not see the files.
 */

import { type InputFileReference, readInputReference } from "@switchyard/protocol";
import { keys, newIncarnation, tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { InputFileUse } from "../ports/input-files.ts";
import type { Log } from "../ports/log.ts";
import type { LocalInputFiles } from "./local-input-files.ts";
import type { RedisConnection } from "./redis-connection.ts";

/** At rest one round in so many looks. */
const restRounds = 10;
/** After a failure none is written for so many. */
const failedRounds = 60;
/** One in so many looks for what jobs left behind, and one in so many for what other clusters did. */
const sweepRounds = 60;
const othersRounds = 3_600;
/** What is younger may belong to a job whose admission is still under way, however slowly. */
const youngMs = 300_000;
/** Its writer would have synced it long before; and it must be longer than a file is written again and again (hidden-input-files.ts), or one that lives might do so at that moment. */
const orphanMs = 30_000;
/** Longer than any job lives with its inputs, as waiting one and as dead letter. */
const othersMs = 8 * 86_400_000;
/** Redis keeps its own file on a disk, often this one, and must not find it full. */
const leastFreeBytes = 2 * 1024 ** 3;
const leastFreeShare = 0.1;
/** Nothing is moved into a store that is filled beyond this share, and so much in one round: how full it is, is known a second later. */
const mostFilled = 0.7;
const mostMovedBytes = 64 * 1024 * 1024;
/** Looked up together. */
const together = 256;

interface Parts {
  redis: RedisConnection;
  files: LocalInputFiles;
  use: InputFileUse;
  /** Redis runs on this machine: what takes the one takes the other. */
  isRedisHere: boolean;
  /** How this process sees the coordinators' folder of large values. */
  sight: () => Promise<string>;
  /** How living hosts see theirs. */
  hostSights: () => ReadonlySet<string | undefined>;
  clock: Clock;
  log: Log;
}

/** Whether hosts see the coordinators' folder. */
type Sight = "all" | "not_all" | "no_host";

interface Obstacle {
  why: string;
  /** Somebody should look after it. */
  isTrouble?: boolean;
}

export class InputFileKeeper {
  readonly #parts: Parts;
  /** The cluster's, by its name. */
  #folder: string | undefined;
  /** How this process saw the folder at the last look, and whether hosts did. */
  #own: string | undefined;
  #seen: Sight | undefined;
  #rounds = 0;
  /** Writes failed: until then none is tried. */
  #failed: { why: string; untilRound: number } | undefined;
  /** Jobs without inputs in Redis at the last sweep: at the next their files go. */
  #suspects = new Set<string>();
  #told: string | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** To be called once a second. At rest only one call in so many looks. */
  async round(): Promise<void> {
    const { files, sight, use } = this.#parts;
    const round = this.#rounds++;
    if (round % restRounds !== 0 && files.isIdle() && this.#sightOf() === this.#seen) return;
    let unseen: Error | undefined;
    this.#own = await sight().catch((error: Error) => {
      unseen = error;
      return undefined;
    });
    this.#seen = this.#sightOf();
    this.#folder = await this.#clusterFolder();
    const obstacle = unseen ? { why: (unseen as Error).message, isTrouble: true } : await this.#obstacle(this.#seen);
    await files.use(obstacle || this.#own === undefined ? undefined : { folder: this.#folder, sight: this.#own });
    this.#tell(obstacle);
    const folder = this.#folder;
    const tasks = [
      () => this.#askAfterDoubtful(),
      ...(use === "no" || this.#seen === "not_all" ? [() => this.#move(folder)] : []),
      ...(round % sweepRounds === 0 ? [() => this.#sweep(folder)] : []),
      ...(round % othersRounds === 0 ? [() => files.dropOthers(folder, othersMs)] : []),
    ];
    await each(tasks, (task) => task());
  }

  #sightOf(): Sight {
    const seen = this.#parts.hostSights();
    if (seen.size === 0) return "no_host";
    return seen.size === 1 && this.#own !== undefined && seen.has(this.#own) ? "all" : "not_all";
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
  async #obstacle(seen: Sight): Promise<Obstacle | undefined> {
    const { files, isRedisHere, redis, use } = this.#parts;
    const failure = files.takeFailure();
    if (failure) this.#failed = { why: failure.message, untilRound: this.#rounds + failedRounds };
    if (use === "no") return { why: "SWITCHYARD_INPUT_FILES is no" };
    if (redis.form !== "standalone")
      return { why: "the store may be replaced by a server that knows less, and would ask for inputs again" };
    if (use === "auto" && !isRedisHere) return { why: "Redis is not on this machine, and SWITCHYARD_INPUT_FILES is not yes" };
    if (seen === "no_host") return { why: "there is no host" };
    if (seen === "not_all") return { why: "a host does not see the folder" };
    if (this.#failed && this.#rounds < this.#failed.untilRound) return { why: this.#failed.why, isTrouble: true };
    this.#failed = undefined;
    const disk = await files.disk().catch(({ message }: Error) => message);
    if (typeof disk === "string") return { why: disk, isTrouble: true };
    const { freeBytes, isLocal, totalBytes } = disk;
    if (!isLocal) return { why: "it is no local disk of a known kind" };
    const least = Math.min(leastFreeBytes, totalBytes * leastFreeShare);
    return freeBytes < least ? { why: "the disk is nearly full", isTrouble: true } : undefined;
  }

  #tell(obstacle: Obstacle | undefined): void {
    const told = obstacle?.why ?? "used";
    if (told === this.#told) return;
    this.#told = told;
    const { log } = this.#parts;
    if (!obstacle) log.info("input_files", { used: true });
    else log[obstacle.isTrouble ? "warn" : "info"]("input_files", { used: false, why: obstacle.why });
  }

  /** To be called once a second. While the store is away files stay: it may come back without having written that their jobs are over. */
  letGo(): void {
    const { answering, sinceMs } = this.#parts.redis.health();
    if (answering) this.#parts.files.letGo(sinceMs);
  }

  /** Files of jobs that have no inputs in Redis go. Others may be dead letters, or jobs whose end the store has forgotten. */
  async #askAfterDoubtful(): Promise<void> {
    const { files } = this.#parts;
    const doubtful = files.takeDoubtful();
    const stored = await this.#headsOf(doubtful.map(({ jobId }) => jobId));
    await each(doubtful, async (file, at) => {
      if (stored[at]!.length === 0) await files.drop(file.folder, file.jobId);
      else if (file.isOver) files.reopen(file);
    });
  }

  async #sweep(folder: string): Promise<void> {
    const { clock, files } = this.#parts;
    const sinceMs = clock.monotonicMs();
    const jobIds = await files.jobs(folder);
    files.forgetGone(new Set(jobIds), sinceMs);
    const heads = await this.#headsOf(jobIds);
    const suspects = new Set<string>();
    const without = jobIds.filter((_jobId, at) => heads[at]!.length === 0);
    await each(without, async (jobId) => {
      if (((await files.age(folder, jobId)) ?? 0) < youngMs) return;
      if (this.#suspects.has(jobId)) await files.drop(folder, jobId);
      else suspects.add(jobId);
    });
    this.#suspects = suspects;
    const tasks = [() => files.dropHidden(folder, youngMs), () => files.adopt(fileReferences(jobIds, heads), orphanMs)];
    await each(tasks, (task) => task());
  }

  /** Open jobs' inputs into Redis, where every host finds them. The files stay as long as their jobs: hosts may have been told of them. */
  async #move(folder: string): Promise<void> {
    const { files, redis } = this.#parts;
    const jobIds = await files.jobs(folder);
    const heads = await this.#headsOf(jobIds);
    const inFiles = fileReferences(jobIds, heads);
    const records = await this.#beginnings(inFiles.map(({ jobId }) => `${keys.base(tagOf(jobId))}job:${jobId}`));
    let movedBytes = 0;
    await each(inFiles, async ({ jobId, reference }, at) => {
      if (!/^(queued|running) /.test(records[at]!.toString("latin1"))) return; // no host asks for a dead letter's
      if (movedBytes >= mostMovedBytes || redis.filled() > mostFilled) return;
      const frame = await files.read(jobId, reference);
      if (!frame) return; // whoever claims the job says so
      await redis.sendAll([["set", keys.input(tagOf(jobId), jobId), frame, "xx", "keepttl"]]);
      movedBytes += frame.length;
    });
  }

  /** How that begins which Redis holds for the jobs' inputs; empty where it holds nothing. */
  #headsOf(jobIds: readonly string[]): Promise<Buffer[]> {
    return this.#beginnings(jobIds.map((jobId) => keys.input(tagOf(jobId), jobId)));
  }

  async #beginnings(of: readonly string[]): Promise<Buffer[]> {
    const found: Buffer[] = [];
    for (let from = 0; from < of.length; from += together) {
      const replies = await this.#parts.redis.sendAllRaw(of.slice(from, from + together).map((key) => ["getrange", key, 0, 255]));
      found.push(...(replies as Buffer[]));
    }
    return found;
  }
}

/** Of those jobs whose inputs are files, by how that begins which Redis holds for each. */
function fileReferences(jobIds: readonly string[], heads: readonly Buffer[]): { jobId: string; reference: InputFileReference }[] {
  return jobIds.flatMap((jobId, at) => {
    const reference = heads[at]!.length > 0 ? readInputReference(heads[at]!) : undefined;
    return reference?.kind === "file" ? { jobId, reference } : [];
  });
}

/** One that fails is no reason to leave the others; the first failure is thrown when all are done. */
async function each<T>(of: readonly T[], act: (one: T, at: number) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  for (const [at, one] of of.entries()) await act(one, at).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
}
