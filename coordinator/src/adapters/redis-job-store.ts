/**
 * The job store on Redis. Owns: writes of many jobs, those of an event-loop turn together (inputs by plain commands, records by lua/admit), one read for
 * all outputs of a turn, and the translation between rows and records. Every transition is one script on one hash slot. Large values go to the
 * blob store, and inputs of some size to files where all hosts see them, with a reference in Redis in their place.
 */

import { createHash } from "node:crypto";
import {
  blobThresholdBytes,
  encodeBlobReference,
  encodeInputFileReference,
  inputFileThresholdBytes,
  isTerminal,
  type JobState,
  joinParts,
  readBlobReference,
  readInputReference,
  SwitchyardError,
  sizeOf,
} from "@switchyard/protocol";
import { channels, keys, type RedisCommand, type RedisReply, tagOf } from "@switchyard/protocol/redis";
import type { BlobStore } from "../ports/blob-store.ts";
import type { InputFiles } from "../ports/input-files.ts";
import type {
  AdmitQueue,
  Admitted,
  EndedAttempt,
  JobListFilter,
  JobNotice,
  JobPage,
  JobRecord,
  JobStore,
  KeyEntry,
  NewJob,
  SweepAnswer,
  TombState,
  ValueSizes,
  WaitingFlow,
} from "../ports/job-store.ts";
import type { TicketQueue } from "../ports/ticket-queue.ts";
import { attemptOf, fixedWordsOf, flowOf, keepOf, noticesOf, outputsIn, recordOf, splitFlow, standingOf, tombOf } from "./job-rows.ts";
import type { RedisConnection, RedisSubscription } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";
import { listJobs } from "./redis-job-list.ts";

/** How long inputs outlive the deadline: late claims, clock steps. */
const inputMarginMs = 60_000;
const maxJobsPerScript = 128;
/** Where runs are light, so many of one turn are sent before it ends, if no admission is unanswered: Redis admits them while the others of that turn are read. */
const enoughForRedis = 16;
/** One command is read whole before it is carried out, and others wait meanwhile. */
const mostBytesTogether = 1_048_576;
/** As in lua/lib-dead.lua. */
const deadMs = 86_400_000;
/** More than any reference takes. */
const mostReferenceBytes = 1_024;
const mostBlobsKept = 10_000;
/** Above this share of the store's memory dead letters give way, the oldest first: open jobs will soon need the room. */
const mostFilledWithDead = 0.7;
const givingWay = 100;

interface PendingAdmit {
  job: NewJob;
  /** What stands in Redis: the frame, or a reference to it. */
  stored: readonly Uint8Array[];
  /** A file was written for this admission. */
  hasFile: boolean;
  resolve: (answer: Admitted) => void;
  reject: (error: unknown) => void;
}

interface Turn {
  jobs: PendingAdmit[];
  queue: AdmitQueue;
}

interface PendingOutput {
  record: string;
  key: string;
  resolve: (bytes: Uint8Array | undefined) => void;
  reject: (error: unknown) => void;
}

export class RedisJobStore implements JobStore {
  readonly #redis: RedisConnection;
  readonly #subscription: RedisSubscription;
  readonly #tickets: TicketQueue;
  readonly #coordinator: string;
  readonly #blobs: BlobStore | undefined;
  readonly #files: InputFiles | undefined;
  readonly #tellsTraces: boolean;
  /** A new one for each turn of the event loop: see passing-map of the protocol. */
  #turns = new Map<string, Turn>();
  /** Calls of lua/admit without an answer yet, of all queues. */
  #unanswered = 0;
  #outputs: PendingOutput[] = [];
  /** Dead letters whose large inputs this coordinator has seen to. */
  readonly #blobsKept = new Set<string>();

  /** Without `blobs` values of any size stay in Redis, without `files` all that are not too large for it. */
  constructor(parts: {
    redis: RedisConnection;
    subscription: RedisSubscription;
    tickets: TicketQueue;
    coordinator: string;
    blobs?: BlobStore;
    files?: InputFiles | undefined;
    /** Whether notices say to which trace their job belongs. */
    tellsTraces?: boolean;
  }) {
    this.#redis = parts.redis;
    this.#subscription = parts.subscription;
    this.#tickets = parts.tickets;
    this.#coordinator = parts.coordinator;
    this.#blobs = parts.blobs;
    this.#files = parts.files;
    this.#tellsTraces = parts.tellsTraces ?? false;
  }

  async onNotice(listener: (notice: JobNotice) => void): Promise<void> {
    await this.#subscription.open(channels.notices(this.#coordinator), (message) => {
      for (const notice of noticesOf(message, { traces: this.#tellsTraces })) {
        if (isTerminal(notice.state)) this.#files?.ended(notice.id, notice.state);
        listener(notice);
      }
    });
  }

  admit(job: NewJob, queue: AdmitQueue): Promise<Admitted> {
    const { inputs } = job;
    const sizeBytes = sizeOf(inputs);
    if (this.#blobs && sizeBytes > blobThresholdBytes) return this.#admitLarge(this.#blobs, job, queue);
    // what is to survive a power cut or the loss of a server goes where that is promised
    const mayBeFile = sizeBytes >= inputFileThresholdBytes && job.durability === undefined;
    const file = mayBeFile ? this.#files?.write(job, inputs) : undefined;
    return this.#admitStored(job, file ? [encodeInputFileReference(file)] : inputs, queue, file !== undefined);
  }

  async #admitLarge(blobs: BlobStore, job: NewJob, queue: AdmitQueue): Promise<Admitted> {
    const reference = await blobs.put(joinParts(job.inputs), { keepMs: job.timeoutMs + inputMarginMs });
    if (job.durability === "fsync") await blobs.sync(reference);
    return this.#admitStored(job, [encodeBlobReference(reference)], queue);
  }

  #admitStored(job: NewJob, stored: readonly Uint8Array[], queue: AdmitQueue, hasFile = false): Promise<Admitted> {
    return new Promise((resolve, reject) => {
      const tag = tagOf(job.id);
      let turn = this.#turns.get(tag);
      if (!turn) {
        turn = { jobs: [], queue };
        this.#turns.set(tag, turn);
        if (this.#turns.size === 1) setImmediate(() => this.#flushAdmits());
      }
      turn.jobs.push({ job, stored, hasFile, resolve, reject });
      if (this.#isEnough(turn)) void this.#admitTogether(tag, turn.jobs.splice(0), turn);
    });
  }

  #isEnough({ jobs, queue }: Turn): boolean {
    return jobs.length >= maxJobsPerScript || (queue.isLight && jobs.length >= enoughForRedis && this.#unanswered === 0);
  }

  #flushAdmits(): void {
    const turns = this.#turns;
    this.#turns = new Map();
    for (const [tag, turn] of turns) if (turn.jobs.length > 0) void this.#admitTogether(tag, turn.jobs, turn);
  }

  async #admitTogether(tag: string, pending: PendingAdmit[], turn: Turn): Promise<void> {
    const { matchingHosts, batchItems, mostWaiting } = turn.queue;
    const most = Math.min(mostWaiting, Number.MAX_SAFE_INTEGER);
    const args = [tag, matchingHosts, batchItems, most, ...this.#jobArgs(pending)];
    try {
      const [nowMs, waiting, tickets, answers] = await this.#answered(() => this.#runAdmit(tag, args, pending));
      if (tickets !== "") for (const ticketId of tickets.split(" ")) this.#tickets.offer(tag, ticketId);
      const lines = answers === "" ? undefined : answers.split("\n");
      for (const [at, { hasFile, job, resolve }] of pending.entries()) {
        const admitted = admittedOf(job, lines?.[at] ?? "admitted", { nowMs, waiting });
        if (hasFile) this.#settleFile(admitted);
        resolve(admitted);
      }
    } catch (error) {
      // one bad job must not refuse its neighbours; repeating is safe because ids are new
      if (pending.length > 1 && !isStoreFailure(error)) for (const one of pending) await this.#admitTogether(tag, [one], turn);
      else {
        if (!isStoreFailure(error)) await this.#forgetInputs(tag, pending);
        for (const { hasFile, job, reject } of pending) {
          // any other failure may be a reply that was lost: then the sweep finds out
          if (hasFile && (error as { code?: string }).code === "store_full") this.#files?.doubtful(job.id);
          reject(error);
        }
      }
    }
  }

  #settleFile(admitted: Admitted): void {
    const { answer, id } = admitted;
    if (answer === "refused" || answer === "full") this.#files?.refused(id);
    else if (answer === "existing" && isTerminal(admitted.state)) this.#files?.ended(id, admitted.state);
  }

  /** What was written with others, before the script found one that is malformed, would stay for good. Should the job be there in spite of all, it has a day. */
  async #forgetInputs(tag: string, pending: readonly PendingAdmit[]): Promise<void> {
    await this.#redis.send(pending.map(({ job }) => ["pexpire", keys.input(tag, job.id), deadMs])).catch(() => {});
  }

  async #answered(admit: () => Promise<RedisReply>): Promise<AdmitReply> {
    this.#unanswered += 1;
    try {
      return (await admit()) as AdmitReply;
    } finally {
      this.#unanswered -= 1;
    }
  }

  /**
   * With the inputs. Several small ones are written by one command, which is a third cheaper than one by one, and gives them no time to live: then in one
   * transaction with the script, so that none is left without its job. What ends a job takes its inputs away.
   */
  #runAdmit(tag: string, args: (string | number)[], pending: readonly PendingAdmit[]): Promise<RedisReply> {
    const apart = (): RedisCommand[] =>
      pending.map(({ job, stored }) => ["psetex", keys.input(tag, job.id), job.timeoutMs + inputMarginMs, stored]);
    const areSmall = pending.length > 1 && pending.reduce((sum, { stored }) => sum + sizeOf(stored), 0) <= mostBytesTogether;
    if (!areSmall) return this.#redis.run("admit", keys.base(tag), args, apart());
    const together = (): RedisCommand[] => [["mset", ...pending.flatMap(({ job, stored }) => [keys.input(tag, job.id), stored])]];
    return this.#redis.runWith("admit", keys.base(tag), args, { together, apart });
  }

  /** Of the script: the flows' weights, then the jobs. What neighbours have in common is said once. */
  #jobArgs(pending: readonly PendingAdmit[]): (string | number)[] {
    const weights = new Map<string, number>();
    const args: (string | number)[] = [];
    let words: (string | number)[] | undefined;
    let countAt = 0;
    for (const { job } of pending) {
      const flow = flowOf(job);
      weights.set(flow, job.tenantWeight);
      const waiter = job.wait ? this.#coordinator : "-";
      const most = job.mostAhead === Number.POSITIVE_INFINITY ? "-" : job.mostAhead;
      const own = [
        flow,
        job.timeoutMs,
        job.latestStartMs,
        keepOf(job),
        job.held ? 0 : 1,
        waiter,
        most,
        job.withinMs ?? 0,
        fixedWordsOf(job),
      ];
      if (!words?.every((word, at) => word === own[at])) {
        countAt = args.push(...own, 0) - 1;
        words = own;
      }
      args[countAt] = Number(args[countAt]) + 1;
      args.push(job.id);
    }
    return [weights.size, ...[...weights].flat(), ...args];
  }

  async boundKey(key: { tenant: string; name: string }): Promise<KeyEntry | undefined> {
    const [reply] = await this.#redis.sendAll([["get", keys.idempotency(key.tenant, digestOf(key.name))]]);
    return entryOf(reply);
  }

  async bindKey(key: { tenant: string; name: string; ttlMs: number }, entry: KeyEntry): Promise<KeyEntry> {
    const name = keys.idempotency(key.tenant, digestOf(key.name));
    const [before] = await this.#redis.sendAll([["set", name, `${entry.fingerprint} ${entry.jobId}`, "NX", "GET", "PX", key.ttlMs]]);
    return entryOf(before) ?? entry;
  }

  async rebindKey(key: { tenant: string; name: string; ttlMs: number }, entry: KeyEntry): Promise<void> {
    const name = keys.idempotency(key.tenant, digestOf(key.name));
    await this.#redis.sendAll([["set", name, `${entry.fingerprint} ${entry.jobId}`, "PX", key.ttlMs]]);
  }

  async rememberQueue(tag: string): Promise<void> {
    await this.#redis.sendAll([["sadd", keys.queues, tag]]);
  }

  async knownQueues(): Promise<string[]> {
    const [reply] = await this.#redis.sendAll([["smembers", keys.queues]]);
    return reply as string[];
  }

  async forgetQueue(tag: string): Promise<void> {
    const base = keys.base(tag);
    const [jobs] = await this.#redis.sendAll([["exists", `${base}due`, `${base}index`, `${base}dead`, `${base}ended`]]);
    if (jobs !== 0) return;
    const left = ["claims", "tickets", "clock", "flows", "weights", "shares", "arrivals", "runs", "tally", "spared"].map(
      (name) => base + name,
    );
    await this.#redis.sendAll([["unlink", ...left]]);
    await this.#redis.sendAll([["srem", keys.queues, tag]]);
  }

  async read(id: string): Promise<JobRecord | TombState | undefined> {
    const base = keys.base(tagOf(id));
    const [record, tomb] = await this.#redis.bytes([`${base}job:${id}`, `${base}tomb:${id}`]);
    if (record) return recordOf(id, record);
    return tomb ? tombOf(tomb.toString()) : undefined;
  }

  async attempts(id: string): Promise<EndedAttempt[]> {
    const [entries] = await this.#redis.sendAll([["lrange", `${keys.base(tagOf(id))}attempts:${id}`, 0, -1]]);
    return (entries as string[]).map(attemptOf);
  }

  async watch(id: string): Promise<JobRecord | TombState | undefined> {
    const reply = (await this.#redis.runRaw("watch", keys.base(tagOf(id)), [id, this.#coordinator])) as Buffer[];
    const [kind, text] = reply;
    if (!kind || !text) return undefined;
    return kind.toString() === "tomb" ? tombOf(text.toString()) : recordOf(id, text);
  }

  async peek(ids: readonly string[]): Promise<Map<string, { state: JobState; revision: number }>> {
    const replies = await this.#redis.sendAll(ids.map((id) => ["getrange", `${keys.base(tagOf(id))}job:${id}`, 0, 40]));
    const seen = new Map<string, { state: JobState; revision: number }>();
    replies.forEach((reply, at) => {
      if (reply) seen.set(ids[at] as string, standingOf(String(reply)));
    });
    return seen;
  }

  async outputs(id: string, fence: number, maxBytes = Number.POSITIVE_INFINITY): Promise<Uint8Array | undefined> {
    const stored = await this.#storedOutputs(id, fence);
    const reference = stored && readBlobReference(stored);
    if (!reference) return stored;
    if (reference.sizeBytes > maxBytes) return undefined;
    if (!this.#blobs) throw new SwitchyardError("internal", "the outputs are in a blob store, and this coordinator has none");
    return this.#blobs.get(reference);
  }

  /** Tells hosts which folder holds large values. Answers the id of another one that was told before, which coordinators must share. */
  async announceBlobs(): Promise<string | undefined> {
    if (!this.#blobs) return undefined;
    const id = await this.#blobs.id();
    const [before] = await this.#redis.sendAll([["set", keys.blobFolder, id, "GET"]]);
    return typeof before === "string" && before !== id ? before : undefined;
  }

  #storedOutputs(id: string, fence: number): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      const tag = tagOf(id);
      this.#outputs.push({ record: `${keys.base(tag)}job:${id}`, key: keys.output(tag, id, fence), resolve, reject });
      if (this.#outputs.length === 1) setImmediate(() => void this.#flushOutputs());
    });
  }

  async #flushOutputs(): Promise<void> {
    const pending = this.#outputs;
    this.#outputs = [];
    try {
      const values = await this.#redis.bytes(pending.flatMap((one) => [one.key, one.record]));
      pending.forEach((one, at) => {
        const [apart, record] = values.slice(2 * at, 2 * at + 2);
        one.resolve(apart ?? (record ? outputsIn(record) : undefined));
      });
    } catch (error) {
      for (const one of pending) one.reject(error);
    }
  }

  async cancel(id: string): Promise<{ record: JobRecord; moved: boolean } | undefined> {
    const state = await this.#redis.run("cancel", keys.base(tagOf(id)), [id]);
    if (state === "none") return undefined;
    const record = await this.read(id);
    return record && "id" in record ? { record, moved: state === "cancelled" } : undefined;
  }

  async expire(ids: readonly string[]): Promise<void> {
    for (const [tag, group] of Map.groupBy(ids, tagOf)) {
      for (let from = 0; from < group.length; from += maxJobsPerScript) {
        await this.#redis.run("expire", keys.base(tag), group.slice(from, from + maxJobsPerScript));
      }
    }
  }

  async keep(id: string, ttlMs: number): Promise<void> {
    await this.#redis.run("keep", keys.base(tagOf(id)), [id, ttlMs]);
  }

  list(tags: readonly string[], filter: JobListFilter): Promise<JobPage> {
    return listJobs(this.#redis, tags, filter);
  }

  async inputs(id: string): Promise<Uint8Array | undefined> {
    const [stored] = await this.#redis.bytes([keys.input(tagOf(id), id)]);
    if (!stored) return undefined;
    const reference = readInputReference(stored);
    if (!reference) return stored;
    if (reference.kind === "file") return this.#fileStore().read(id, reference);
    if (!this.#blobs) throw new SwitchyardError("internal", "the inputs are in a blob store, and this coordinator has none");
    return this.#blobs.get(reference);
  }

  #fileStore(): InputFiles {
    if (!this.#files) throw new SwitchyardError("internal", "the inputs are in a file, and this coordinator sees no folder of them");
    return this.#files;
  }

  async inputsBeginning(id: string, bytes: number): Promise<Uint8Array | undefined> {
    const [reply] = await this.#redis.sendAllRaw([["getrange", keys.input(tagOf(id), id), 0, bytes - 1]]);
    const stored = reply as Buffer;
    const reference = stored.length <= mostReferenceBytes ? readInputReference(stored) : undefined;
    if (!reference) return stored.length === 0 ? undefined : stored;
    if (reference.kind === "file") return this.#fileStore().read(id, reference, bytes);
    const found = await this.#blobs?.open(reference.sha256);
    if (!found) return undefined;
    const parts: Uint8Array[] = [];
    for await (const part of found.stream) {
      parts.push(part);
      if (sizeOf(parts) >= bytes) break;
    }
    return joinParts(parts).subarray(0, bytes);
  }

  async sizes(id: string, fence: number): Promise<ValueSizes> {
    const tag = tagOf(id);
    const apart = [keys.input(tag, id), keys.output(tag, id, fence)];
    // a reference to a large value is whole in its first bytes, a value that begins like none is as long as it is
    const replies = await this.#redis.sendAllRaw([
      ...apart.flatMap((key): RedisCommand[] => [
        ["strlen", key],
        ["getrange", key, 0, mostReferenceBytes],
      ]),
      ["get", `${keys.base(tag)}job:${id}`],
    ]);
    const [inputBytes, inputHead, outputBytes, outputHead, record] = replies as [number, Buffer, number, Buffer, Buffer | null];
    const inputs = sizeOfStored(inputHead, Number(inputBytes));
    const inRecord = record ? outputsIn(record) : undefined;
    const outputs = sizeOfStored(outputHead, Number(outputBytes)) ?? (inRecord && sizeOfStored(inRecord, inRecord.length));
    return { ...(inputs !== undefined && { inputs }), ...(outputs !== undefined && { outputs }) };
  }

  async inputsKept(ids: readonly string[]): Promise<Set<string>> {
    const replies = ids.length === 0 ? [] : await this.#redis.sendAll(ids.map((id) => ["exists", keys.input(tagOf(id), id)]));
    return new Set(ids.filter((_id, at) => Number(replies[at]) > 0));
  }

  async discard(id: string): Promise<boolean> {
    return (await this.#redis.run("discard", keys.base(tagOf(id)), [id])) === 1;
  }

  /** Large inputs lie in the blob store, for no longer than their job was to live: those of new dead letters are kept on. */
  async #keepDeadBlobs(tag: string, blobs: BlobStore, nowMs: number): Promise<void> {
    const [listed] = await this.#redis.sendAll([["zrangebyscore", `${keys.base(tag)}dead`, nowMs - inputMarginMs, "+inf"]]);
    const ids = (listed as string[]).filter((id) => !this.#blobsKept.has(id));
    if (ids.length === 0) return;
    const heads = await this.#redis.sendAllRaw(ids.map((id) => ["getrange", keys.input(tag, id), 0, mostReferenceBytes]));
    for (const [at, id] of ids.entries()) {
      const reference = readInputReference(heads[at] as Buffer);
      if (reference?.kind === "blob") await blobs.keep(reference, { keepMs: deadMs });
      if (this.#blobsKept.size >= mostBlobsKept) this.#blobsKept.clear();
      this.#blobsKept.add(id);
    }
  }

  async openQueues(tags: readonly string[], listed?: "listed"): Promise<string[]> {
    return this.#withAny(tags, listed ? ["due", "index", "dead"] : ["due"]);
  }

  /** Which of these queues have one of these keys at least. */
  async #withAny(tags: readonly string[], names: readonly string[]): Promise<string[]> {
    if (tags.length === 0) return [];
    const replies = await this.#redis.sendAll(tags.map((tag) => ["exists", ...names.map((name) => keys.base(tag) + name)]));
    return tags.filter((_tag, at) => Number(replies[at]) > 0);
  }

  async waiting(tags: readonly string[]): Promise<WaitingFlow[]> {
    const replies = tags.length === 0 ? [] : await this.#redis.sendAll(tags.map((tag) => ["hkeys", `${keys.base(tag)}flows`]));
    const flows = tags.flatMap((tag, at) => (replies[at] as string[]).map((flow) => ({ tag, flow })));
    if (flows.length === 0) return [];
    const counts = await this.#redis.sendAll(flows.map(({ tag, flow }) => ["zcard", `${keys.base(tag)}order:${flow}`]));
    return flows.map(({ tag, flow }, at) => ({ tag, ...splitFlow(flow), jobs: Number(counts[at]) })).filter(({ jobs }) => jobs > 0);
  }

  async sweep(tag: string, matchingHosts: number, batchItems: number, takers: readonly string[] = []): Promise<SweepAnswer> {
    const reply = (await this.#redis.run("sweep", keys.base(tag), [
      tag,
      matchingHosts,
      batchItems,
      this.filled() > mostFilledWithDead ? givingWay : 0,
      takers.join(" "),
    ])) as (string | number)[];
    const [nowMs, waiting, running, oldestMs, dead, expired, returned, doubted, areOver, claimCount] = reply.slice(0, 10).map(Number) as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const claims: SweepAnswer["claims"] = [];
    for (let at = 0; at < claimCount; at++) {
      claims.push({ incarnation: String(reply[10 + 2 * at]), sequence: Number(reply[11 + 2 * at]) });
    }
    if (dead > 0 && this.#blobs) await this.#keepDeadBlobs(tag, this.#blobs, nowMs).catch(() => {}); // the next sweep tries again
    const tickets = reply.slice(10 + 2 * claimCount).map(String);
    return { nowMs, figures: { waiting, running, oldestMs, dead }, expired, returned, doubted, toForget: areOver === 1, claims, tickets };
  }

  async forgetEnded(tag: string): Promise<boolean> {
    return (await this.#redis.run("forget", keys.base(tag), [])) === 1;
  }

  async keepingEnded(tags: readonly string[]): Promise<string[]> {
    return this.#withAny(tags, ["ended"]);
  }

  async takeBack(tag: string, incarnation: string, matchingHosts: number, batchItems: number) {
    const reply = (await this.#redis.run("take-back", keys.base(tag), [tag, incarnation, matchingHosts, batchItems])) as (
      | string
      | number
    )[];
    return { returned: Number(reply[0]), failed: Number(reply[1]), tickets: reply.slice(2).map(String) };
  }

  async callBack(tag: string, shouldNot: (incarnation: string) => boolean): Promise<void> {
    const base = keys.base(tag);
    const [reply] = await this.#redis.sendAll([["hgetall", `${base}tickets`]]);
    for (const [held, text] of fieldsOf(reply!)) {
      const [, holder = "-"] = text.split(" ");
      if (!shouldNot(holder)) continue;
      const issued = (await this.#redis.run("release", base, [tag, holder, held, 0])) as string[];
      for (const ticketId of issued) this.#tickets.offer(tag, ticketId);
    }
  }

  async returnClaim(tag: string, incarnation: string, sequence: number): Promise<number> {
    return Number(await this.#redis.run("return-claim", keys.base(tag), [incarnation, sequence]));
  }

  health(): { answering: boolean; sinceMs: number } {
    return this.#redis.health();
  }

  filled(): number {
    return this.#redis.filled();
  }

  nowMs(): number {
    return this.#redis.nowMs();
  }
}

type AdmitReply = [nowMs: number, waiting: number, tickets: string, answers: string];

/** `line`: the script's answer for one job. */
function admittedOf({ id, timeoutMs }: NewJob, line: string, { nowMs, waiting }: { nowMs: number; waiting: number }): Admitted {
  if (line === "admitted") {
    return { id, answer: "admitted", state: "queued", createdMs: nowMs, deadlineMs: nowMs + timeoutMs, waiting };
  }
  const [word, first, second] = line.split(" ");
  if (word === "refused") return { id, answer: "refused", ahead: Number(first), waiting };
  if (word === "full") return { id, answer: "full", waiting: Number(first) };
  return { id, answer: "existing", state: word as JobState, createdMs: Number(first), deadlineMs: Number(second), waiting };
}

function isStoreFailure(error: unknown): boolean {
  const code = (error as { code?: string }).code;
  return code === "store_unavailable" || code === "store_full";
}

/** `head`: its first bytes. Undefined where there is none. */
function sizeOfStored(head: Buffer, sizeBytes: number): number | undefined {
  if (sizeBytes === 0) return undefined;
  const reference = sizeBytes <= mostReferenceBytes ? readInputReference(head) : undefined;
  return reference?.sizeBytes ?? sizeBytes;
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 40);
}

function entryOf(reply: RedisReply | undefined): KeyEntry | undefined {
  const [fingerprint, jobId] = String(reply ?? "").split(" ");
  return fingerprint && jobId ? { fingerprint, jobId } : undefined;
}
