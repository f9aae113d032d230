/** What `switchyard doctor` says of the store: its form and versions, and whether its settings keep jobs. By INFO and TIME alone, which any role may ask. */

import { type RedisTarget, redisPlace, shownAddress } from "@switchyard/protocol/redis";
import { RedisConnection } from "../adapters/redis-connection.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { type Finding, missing, ok, warning } from "./finding.ts";

const largestOffsetMs = 250;
/** A tenth below the mark at which admission refuses (application/jobs.ts). */
const fullShare = 0.7;
/** A host has three connections and one for each queue that it takes tickets from. */
const manyClientsShare = 0.7;

type Facts = (name: string) => string;

export async function storeFindings(config: Pick<Config, "redisUrl" | "redisTls">, running: string | undefined): Promise<Finding[]> {
  const url = config.redisUrl ?? running;
  if (url === undefined) return [ok("store", "none runs; `switchyard up` starts one")];
  const target: RedisTarget = { url, tls: config.redisTls };
  const shown = shownAddress(target);
  const connection = new RedisConnection(target, "switchyard-doctor", systemClock);
  try {
    try {
      await connection.open();
    } catch (error) {
      const cause = (error as Error).cause as Error | undefined;
      if (cause) return [missing("store", `${shown}: ${cause.message}`, "start it, or correct SWITCHYARD_REDIS_URL (--redis-url)")];
      return [missing("store", (error as Error).message, "correct what it names; see docs/redis.md")];
    }
    return await inspect(connection, { shown, form: redisPlace(target).form });
  } finally {
    await connection.close();
  }
}

async function inspect(connection: RedisConnection, place: { shown: string; form: string }): Promise<Finding[]> {
  const beganMs = systemClock.nowMs();
  const times = await connection.askEach(["time"]);
  const middleMs = (beganMs + systemClock.nowMs()) / 2;
  const servers = await connection.askEach(["info"]);
  const findings: Finding[] = [];
  for (const { at, reply } of servers) {
    if (reply instanceof Error) {
      return [
        missing("store", `${place.shown}: ${reply.message}`, "allow this user INFO and TIME; docs/redis.md has the rules of each role"),
      ];
    }
    const text = String(reply);
    const facts: Facts = (name) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(text)?.[1] ?? "";
    const time = times.find((one) => one.at === at)?.reply;
    const offsetMs = Array.isArray(time) ? Math.round(Number(time[0]) * 1_000 + Number(time[1]) / 1_000 - middleMs) : undefined;
    const of = servers.length > 1 ? `${at}: ` : "";
    findings.push(...ofServer(facts, offsetMs).map((finding) => ({ ...finding, found: `${of}${finding.found}` })));
  }
  return [formFinding(servers.length, place), ...findings];
}

function formFinding(count: number, { form, shown }: { form: string; shown: string }): Finding {
  if (form === "sentinel") return ok("store", `${shown}: the master that its sentinels name`);
  return ok("store", form === "cluster" ? `${shown}: a cluster of ${count} masters` : `${shown}: one server`);
}

function ofServer(facts: Facts, offsetMs: number | undefined): Finding[] {
  const clockWords = offsetMs === undefined ? "unknown" : `${offsetMs} ms from the store's`;
  return [
    versionFinding(facts),
    evictionFinding(facts("maxmemory_policy")),
    memoryFinding(facts),
    persistenceFinding(facts),
    ...replicaFindings(facts),
    connectionFinding(facts),
    offsetMs !== undefined && Math.abs(offsetMs) <= largestOffsetMs
      ? ok("clock", clockWords)
      : warning("clock", clockWords, "let NTP set both clocks: deadlines follow the store's, and this machine's logs will not match them"),
  ];
}

function versionFinding(facts: Facts): Finding {
  const valkey = facts("valkey_version");
  const version = valkey || facts("redis_version");
  const words = `${valkey ? "Valkey" : "Redis"} ${version}`;
  if (Number.parseInt(version, 10) < 7) return missing("version", words, "upgrade to version 7 or newer");
  const [major = 0, minor = 0] = facts("redis_version").split(".").map(Number);
  const waits = major > 7 || (major === 7 && minor >= 2);
  return ok("version", `${words}; WAITAOF ${waits ? "is there" : "is not (from Redis 7.2)"}`);
}

function evictionFinding(policy: string): Finding {
  if (policy === "noeviction") return ok("eviction", policy);
  return missing("eviction", policy, "CONFIG SET maxmemory-policy noeviction; anything else deletes jobs");
}

function memoryFinding(facts: Facts): Finding {
  const subject = "memory limit";
  const most = Number(facts("maxmemory"));
  const used = Number(facts("used_memory"));
  if (most === 0) {
    return warning(subject, "maxmemory 0: none", "set maxmemory; without it nothing refuses jobs before the machine's memory is full");
  }
  const words = `${Math.round(most / 2 ** 20)} MiB, ${Math.round((used / most) * 100)} % used`;
  if (used / most < fullShare) return ok(subject, words);
  return warning(
    subject,
    words,
    "raise maxmemory, shorten SWITCHYARD_RESULT_TTL, or add workers: from 80 % on jobs are refused (store_full)",
  );
}

function persistenceFinding(facts: Facts): Finding {
  const subject = "append-only file";
  if (facts("aof_enabled") !== "1") {
    return warning(subject, "off", "CONFIG SET appendonly yes; without it a restart of Redis loses every job");
  }
  if (facts("aof_last_write_status") !== "ok" || facts("aof_last_bgrewrite_status") !== "ok") {
    return warning(subject, "on, and its last write or rewrite failed", "look into the server's log: usually the disk is full");
  }
  return ok(subject, "on");
}

/** Where there are replicas, a master that has lost them goes on alone, and what it accepts is gone when one of them takes its place. */
function replicaFindings(facts: Facts): Finding[] {
  const replicas = Number(facts("connected_slaves"));
  if (replicas === 0) return [];
  const words = `${replicas} connected`;
  return facts("min_slaves_good_slaves") === ""
    ? [
        warning(
          "replicas",
          words,
          "CONFIG SET min-replicas-to-write 1: a master that is cut off then accepts nothing that a failover would lose",
        ),
      ]
    : [ok("replicas", `${words}, and writes need them`)];
}

function connectionFinding(facts: Facts): Finding {
  const [now, most] = [Number(facts("connected_clients")), Number(facts("maxclients"))];
  if (!most) return ok("connections", `${now}`);
  const words = `${now} of ${most}`;
  if (now / most < manyClientsShare) return ok("connections", words);
  return warning("connections", words, "raise maxclients, and the limit of open files with it: servers that reach it refuse hosts");
}
