/**
 * Queues for jobs that require more of a host than their model does: each has a tag of its own, which is written down in Redis so that
 * hosts and all coordinators know what it stands for. An entry that this coordinator uses and somebody removed is written again.
 */

import {
  beyond,
  type ChoosyQueue,
  canonicalRequirement,
  choosyVersion,
  contradictedLabel,
  type ModelVersion,
  type Requirement,
  requirementsOf,
  SwitchyardError,
} from "@switchyard/protocol";
import { choosyQueueTag, keys, type RedisCommand } from "@switchyard/protocol/redis";
import type { RedisConnection } from "./redis-connection.ts";
import { fieldsOf } from "./redis-fields.ts";

/** Requirements are clients' text: a model has at most so many queues at a time. */
const mostPerVersion = 64;
/** Whoever admitted a job this lately counts on the entry. */
const inUseMs = 10_000;

/**
 * The version with what a job requires beyond it, and the tag of its queue; the version itself where that is nothing. Throws
 * `invalid_request` where no host could ever have both.
 */
export function choosyCandidate(version: ModelVersion, require: Requirement): ModelVersion {
  const already = requirementsOf(version);
  const contradicted = contradictedLabel(require, already);
  if (contradicted) {
    const { expected, got, name } = contradicted;
    throw new SwitchyardError("invalid_request", `model ${version.model} requires label ${name}=${expected}, this job ${name}=${got}`, {
      fields: [{ pointer: `/require/labels/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`, expected, got }],
    });
  }
  const more = beyond(require, already);
  const canonical = canonicalRequirement(more);
  if (canonical === "") return version;
  return { ...version, tag: choosyQueueTag(version.model, version.digest, canonical), require: more };
}

export class ChoosyQueues {
  readonly #redis: RedisConnection;
  #queues = new Map<string, ChoosyQueue>();
  readonly #used = new Map<string, { queue: ChoosyQueue; untilMs: number }>();

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  /** Nothing to do where nothing is required. */
  async open({ digest, model, require, tag, version }: ModelVersion): Promise<void> {
    if (require === undefined) return;
    if (!this.#queues.has(tag) && this.#countOf(model, version) >= mostPerVersion) {
      throw new SwitchyardError(
        "queue_full",
        `model ${model} has jobs with ${mostPerVersion} different requirements; try again when some ended`,
      );
    }
    const queue: ChoosyQueue = { model, version, digest, require };
    await this.#write(tag, queue);
    this.#used.set(tag, { queue, untilMs: this.#redis.nowMs() + inUseMs });
  }

  #countOf(model: string, version: number): number {
    let count = 0;
    for (const queue of this.#queues.values()) if (queue.model === model && queue.version === version) count++;
    return count;
  }

  async #write(tag: string, queue: ChoosyQueue): Promise<void> {
    // hosts look when the revision rises; one time too many does no harm, and a write that is sent twice must not be one too few
    const write: RedisCommand = ["hset", keys.choosyQueues, tag, JSON.stringify(queue)];
    const raise: RedisCommand = ["incr", keys.modelsRevision];
    const isKnown = this.#queues.has(tag);
    const [isNew] = await this.#redis.sendAll(isKnown ? [write] : [write, raise]);
    this.#queues.set(tag, queue);
    if (isKnown && isNew) await this.#redis.sendAll([raise]);
  }

  async refresh(): Promise<void> {
    const [reply] = await this.#redis.sendAll([["hgetall", keys.choosyQueues]]);
    const queues = new Map([...fieldsOf(reply!)].map(([tag, text]) => [tag, JSON.parse(text) as ChoosyQueue]));
    this.#queues = queues;
    const nowMs = this.#redis.nowMs();
    for (const [tag, { queue, untilMs }] of this.#used) {
      if (untilMs < nowMs) this.#used.delete(tag);
      else if (!queues.has(tag)) await this.#write(tag, queue);
    }
  }

  async forget(tag: string): Promise<boolean> {
    if (!this.#queues.has(tag) || (this.#used.get(tag)?.untilMs ?? 0) > this.#redis.nowMs()) return false;
    await this.#redis.sendAll([
      ["hdel", keys.choosyQueues, tag],
      ["incr", keys.modelsRevision],
    ]);
    return this.#queues.delete(tag);
  }

  tags(): string[] {
    return [...this.#queues.keys()];
  }

  /** Those whose model's content is still there. */
  versions(byModel: ReadonlyMap<string, readonly ModelVersion[]>): ModelVersion[] {
    return [...this.#queues].flatMap(([tag, queue]) => choosyVersion(queue, tag, byModel.get(queue.model) ?? []) ?? []);
  }
}
