/** The rig on a real Redis: the coordinator's store, and the hosts' scripts called one by one. Scripts can be changed on their way in. */

import { readFileSync } from "node:fs";
import type { JobClass } from "@switchyard/protocol";
import { assembleScript, keys, type RedisReply, type Script, type ScriptName, scriptNames } from "@switchyard/protocol/redis";
import { Cluster, type Redis } from "ioredis";
import { RedisConnection, RedisSubscription } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisJobStore } from "../../coordinator/src/adapters/redis-job-store.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import type { BlobStore } from "../../coordinator/src/ports/blob-store.ts";
import type { InputFiles } from "../../coordinator/src/ports/input-files.ts";
import { hostConnection } from "../../worker/src/redis-connection.ts";
import { type HostClaim, type HostJob, type HostSide, JobRig, OfferedTickets } from "./job-rig.ts";
import { auditQueue } from "./queue-audit.ts";

/** Changes the text of a file of protocol/src/lua before it is sent. */
export type LuaPatch = (file: string, text: string) => string;

const sources = new URL("../../protocol/src/lua/", import.meta.url);

export class RedisRigs {
  readonly redis: Redis;
  readonly url: string;
  readonly offers = new OfferedTickets();
  readonly side: HostSide;
  readonly #scripts = new Map<string, Script>();
  readonly #closers: (() => Promise<void>)[] = [];
  #store: RedisJobStore | undefined;

  private constructor(url: string, patch: LuaPatch) {
    this.url = url;
    this.redis = hostConnection(url, "rig-host") as Redis;
    for (const name of scriptNames) {
      const script = assembleScript(name, (file) => patch(file, readFileSync(new URL(file, sources), "utf8")));
      this.#scripts.set(name, script);
    }
    this.side = this.#hostSide();
  }

  static async open(url: string, patch: LuaPatch = (_file, text) => text): Promise<RedisRigs> {
    const rigs = new RedisRigs(url, patch);
    // a write that waits for a busy disk is one of two seconds, in which tickets lapse; no rig cuts the power
    const client: unknown = rigs.redis;
    const nodes = client instanceof Cluster ? client.nodes("master") : [rigs.redis];
    await Promise.all(nodes.map((node) => node.config("SET", "appendfsync", "no")));
    rigs.#store = await rigs.coordinator("coordinator-1");
    return rigs;
  }

  /** Another coordinator's store on the same Redis. */
  async coordinator(name: string, blobs?: BlobStore, files?: InputFiles): Promise<RedisJobStore> {
    const connection = new RedisConnection(this.url, name, systemClock);
    await connection.open();
    const subscription = new RedisSubscription(this.url, `${name}-notices`, systemClock);
    this.#closers.push(async () => {
      subscription.close();
      await connection.close();
    });
    const store = { redis: connection, subscription, tickets: this.offers, coordinator: name, files };
    return new RedisJobStore({ ...store, ...(blobs && { blobs }) });
  }

  /** Another connection, closed with the rigs. */
  connection(name: string): Redis {
    const redis = hostConnection(this.url, name) as Redis;
    this.#closers.push(async () => redis.disconnect());
    return redis;
  }

  /** A rig with a queue of its own, and that coordinator's store. */
  rig(store = this.#store as RedisJobStore): JobRig {
    return new JobRig({
      store,
      side: this.side,
      offers: this.offers,
      audit: (tag) => auditQueue(this.redis, tag),
    });
  }

  async close(): Promise<void> {
    for (const close of this.#closers) await close();
    this.redis.disconnect();
  }

  /** Runs one script as it stands in the repository, or as the patch made it. */
  async script(name: ScriptName, key: string, args: readonly (string | number)[]): Promise<RedisReply> {
    const { sha, source } = this.#scripts.get(name) as Script;
    try {
      return (await this.redis.evalsha(sha, 1, key, ...args)) as RedisReply;
    } catch (error) {
      if (!(error as Error).message.startsWith("NOSCRIPT")) throw error;
      return (await this.redis.eval(source, 1, key, ...args)) as RedisReply;
    }
  }

  #hostSide(): HostSide {
    const answerOf = async (name: ScriptName, tag: string, args: readonly (string | number)[]): Promise<string> =>
      String(await this.script(name, keys.base(tag), args));
    return {
      take: ({ tag, incarnation, ticketId, how = "" }) => answerOf("take", tag, [incarnation, ticketId, how]),
      renew: ({ tag, incarnation, ticketId, how = "" }) => answerOf("renew", tag, [incarnation, ticketId, how]),
      claim: async (step) => {
        const { tag, incarnation, sequence, ticketId, hostId, maxItems, busyMs, lingerMs, overheadMs, delayMs, isAhead, follows, ladders } =
          step;
        const args = [
          tag,
          incarnation,
          sequence,
          ticketId,
          encodeURIComponent(hostId),
          maxItems,
          busyMs,
          lingerMs,
          overheadMs,
          delayMs,
          1,
          isAhead ? "ahead" : follows ? "after" : "alone",
        ];
        for (const [size, ladder] of ladders) args.push(`${size} ${ladder.map((rung) => rung.join(" ")).join(" ")}`);
        return claimOf((await this.script("claim", keys.base(tag), args)) as (string | number)[]);
      },
      commit: async ({ tag, incarnation, ticketId, runMs, outcomes, lingerMs, standing }) => {
        const args: (string | number)[] = [incarnation, ticketId, runMs, outcomes.length, lingerMs ?? 0, standing ?? ""];
        let [common, countAt] = ["", 0];
        for (const { id, fence, outcome, outputs, error, retryDelayMs } of outcomes) {
          if (outputs) await this.redis.set(keys.output(tag, id, fence), Buffer.from(outputs), "PX", 65_000);
          const own = [fence, outcome, error ? JSON.stringify(error) : ""];
          if (common !== own.join(" ")) countAt = args.push(...own, 0) - 1;
          common = own.join(" ");
          args[countAt] = Number(args[countAt]) + 1;
          args.push(id, outcome === "succeeded" ? "" : (retryDelayMs ?? 0));
        }
        const reply = await this.script("commit", keys.base(tag), args);
        return Array.isArray(reply) ? reply.map(String) : outcomes.map(() => String(reply));
      },
      release: async ({ how, tag, incarnation, ticketId, matchingHosts }) =>
        ((await this.script("release", keys.base(tag), [tag, incarnation, ticketId, matchingHosts, how])) as string[]).map(String),
    };
  }
}

function claimOf(row: (string | number)[]): HostClaim {
  const kind = row[0] as HostClaim["kind"];
  if (kind === "defer") return { kind, untilMs: Number(row[1]) };
  if (kind !== "batch") return { kind };
  const jobs = String(row[2])
    .split("\n")
    .flatMap((line): HostJob[] => {
      const [ids = "", fence, attempt, keep = "", deadline, created, jobClass, items] = line.split(" ");
      const [deadlineMs, createdMs, ttlMs] = [Number(deadline), Number(created), Number(keep.slice(1))];
      const numbers = { fence: Number(fence), deadlineMs, items: Number(items), attempt: Number(attempt), createdMs };
      return ids.split(",").map((id) => ({ id, ...numbers, class: jobClass as JobClass, ttlMs }));
    });
  return { kind, nowMs: Number(row[1]), jobs };
}
