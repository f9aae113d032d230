/**
 * What `switchyard doctor` says of the store: its form and versions, and whether its settings keep jobs. By INFO and TIME, which every role may
 * ask; CONFIG is asked as well, and does without an answer.
 */

import { keys, nodeText, type RedisTarget, redisPlace, shownAddress, storeFormat } from "@switchyard/protocol/redis";
import type { Offer } from "../adapters/durability-offers.ts";
import { RedisConnection } from "../adapters/redis-connection.ts";
import { storeOffers } from "../adapters/redis-durability.ts";
import { systemClock } from "../clock.ts";
import type { Config } from "../config.ts";
import { type Finding, missing, ok, warning } from "./finding.ts";

const largestOffsetMs = 250;
/** A tenth below the mark at which admission refuses (application/submissions.ts). */
const fullShare = 0.7;
const refusingShare = 0.8;
/** A host has three connections and one for each queue that it takes tickets from. */
const manyClientsShare = 0.7;

interface Server {
  fact(name: string): string;
  /** Of its clock, beyond this machine's, at least. */
  offsetMs: number | undefined;
  /** Undefined where this user may not ask. */
  fsync: string | undefined;
  form: string;
}

export async function storeFindings(config: Pick<Config, "redisUrl" | "redisTls">, running: string | undefined): Promise<Finding[]> {
  const url = config.redisUrl ?? running;
  if (url === undefined) return [ok("store", "none runs; `switchyard up` starts one")];
  const target: RedisTarget = { url, tls: config.redisTls };
  const shown = shownAddress(target);
  const connection = new RedisConnection(target, "switchyard-doctor", systemClock);
  try {
    await connection.connect();
  } catch (error) {
    const why = ((error as Error).cause as Error).message;
    return [missing("store", `${shown}: ${why}`, "start it, or correct SWITCHYARD_REDIS_URL (--redis-url)")];
  }
  try {
    return await inspect(connection, target);
  } catch (error) {
    const fix = "allow this user what docs/redis.md lists for its role";
    return [missing("store", `${shown}: ${(error as Error).message}`, fix)];
  } finally {
    await connection.close();
  }
}

async function inspect(connection: RedisConnection, target: RedisTarget): Promise<Finding[]> {
  const { form } = redisPlace(target);
  const beganMs = systemClock.nowMs();
  const times = await connection.askEach(["time"]);
  const endedMs = systemClock.nowMs();
  const settings = await connection.askEach(["config", "get", "appendfsync"]);
  const servers = await connection.askEach(["info"]);
  const findings: Finding[] = [];
  for (const [index, { at, reply }] of servers.entries()) {
    if (reply instanceof Error) throw reply;
    const text = String(reply);
    const [time, setting] = [times[index]?.reply, settings[index]?.reply];
    const server: Server = {
      form,
      fact: (name) => new RegExp(`^${name}:(.*?)\r?$`, "m").exec(text)?.[1] ?? "",
      offsetMs: Array.isArray(time) ? offsetOf(Number(time[0]) * 1_000 + Number(time[1]) / 1_000, { beganMs, endedMs }) : undefined,
      fsync: Array.isArray(setting) ? String(setting[1]) : undefined,
    };
    const of = servers.length > 1 ? `${at}: ` : "";
    findings.push(...ofServer(server).map((finding) => ({ ...finding, found: `${of}${finding.found}` })));
  }
  return [
    formFinding(target, servers.length),
    ...(await layoutFinding(connection)),
    ...findings,
    ...(await durabilityFindings(connection)),
  ];
}

/** Nobody has to offer them: jobs that ask for a tier which is not there are refused. */
async function durabilityFindings(connection: RedisConnection): Promise<Finding[]> {
  const offers = Object.entries(await storeOffers(connection));
  return offers.map(([tier, offer]) => ok(`durability ${tier}`, offerText(offer)));
}

function offerText(offer: Offer): string {
  if (!("by" in offer)) return `not offered: ${offer.why}. To offer it: ${offer.fix}`;
  return { wait: "offered, by WAIT", waitaof: "offered, by WAITAOF", always: "offered, by appendfsync always" }[offer.by];
}

function formFinding(target: RedisTarget, servers: number): Finding {
  const { form, nodes } = redisPlace(target);
  const shown = shownAddress(target);
  if (form === "standalone") return ok("store", `${shown}: one server`);
  const what = form === "sentinel" ? "the master that its sentinels name" : `a cluster of ${servers} masters`;
  if (nodes.length > 1) return ok("store", `${shown}: ${what}`);
  const others = form === "sentinel" ? "the other sentinels" : "more nodes";
  return warning("store", `${shown}: ${what}`, `name ${others} in SWITCHYARD_REDIS_URL too: ${nodes.map(nodeText)} alone may be away`);
}

async function layoutFinding(connection: RedisConnection): Promise<Finding[]> {
  const [found] = await connection.sendAll([["get", keys.format]]);
  if (found === null || found === storeFormat) return [];
  const fix = "let the version that wrote it finish its jobs, then use an empty Redis";
  return [missing("layout", `jobs in layout ${found}; this version reads layout ${storeFormat}`, fix)];
}

function ofServer(server: Server): Finding[] {
  return [
    versionFinding(server),
    evictionFinding(server.fact("maxmemory_policy")),
    memoryFinding(server),
    persistenceFinding(server),
    ...replicaFindings(server),
    connectionFinding(server),
    clockFinding(server.offsetMs),
  ];
}

function versionFinding({ fact }: Server): Finding {
  const valkey = fact("valkey_version");
  const version = valkey || fact("redis_version");
  const words = `${valkey ? "Valkey" : "Redis"} ${version}`;
  if (Number.parseInt(version, 10) < 7) return missing("version", words, "upgrade to version 7 or newer");
  return ok("version", words);
}

function evictionFinding(policy: string): Finding {
  if (policy === "noeviction") return ok("eviction", policy);
  return missing("eviction", policy, "CONFIG SET maxmemory-policy noeviction; anything else deletes jobs");
}

function memoryFinding({ fact }: Server): Finding {
  const subject = "memory limit";
  const most = Number(fact("maxmemory"));
  const used = Number(fact("used_memory"));
  if (most === 0) {
    return warning(subject, "maxmemory 0: none", "set maxmemory; without it nothing refuses jobs before the machine's memory is full");
  }
  const words = `${Math.round(most / 2 ** 20)} MiB, ${Math.round((used / most) * 100)} % used`;
  if (used / most < fullShare) return ok(subject, words);
  const now = used / most >= refusingShare ? ": jobs are refused now" : "";
  const fix = "raise maxmemory, shorten SWITCHYARD_RESULT_TTL, or add workers: from 80 % on jobs are refused (store_full)";
  return warning(subject, `${words}${now}`, fix);
}

function persistenceFinding({ fact, fsync }: Server): Finding {
  const subject = "append-only file";
  if (fact("aof_enabled") !== "1") {
    return warning(subject, "off", "CONFIG SET appendonly yes; without it a restart of Redis loses every job");
  }
  if (fact("aof_last_write_status") !== "ok" || fact("aof_last_bgrewrite_status") !== "ok") {
    return warning(subject, "on, and its last write or rewrite failed", "look into the server's log: usually the disk is full");
  }
  if (fsync === "no") {
    return warning(
      subject,
      "on, written when the system pleases",
      "CONFIG SET appendfsync everysec; a power cut then takes a second at most",
    );
  }
  return ok(subject, fsync === undefined ? "on" : `on, appendfsync ${fsync}`);
}

function replicaFindings({ fact, form }: Server): Finding[] {
  const replicas = Number(fact("connected_slaves"));
  if (replicas === 0) {
    if (form === "standalone") return [];
    return [warning("replicas", "none", "add one: without it nothing takes this master's place, and what lies on it is away with it")];
  }
  const words = `${replicas} connected`;
  // a master that has lost its replicas and goes on alone accepts what is gone when one of them takes its place
  return fact("min_slaves_good_slaves") === ""
    ? [
        warning(
          "replicas",
          words,
          "CONFIG SET min-replicas-to-write 1: a master that is cut off then accepts nothing that a failover would lose",
        ),
      ]
    : [ok("replicas", `${words}, and writes need them`)];
}

/** How far a clock is off at least, in whole ms: it was read at some moment of the question, which may have taken long. */
export function offsetOf(readMs: number, asked: { beganMs: number; endedMs: number }): number {
  if (readMs < asked.beganMs) return Math.round(readMs - asked.beganMs);
  return Math.max(0, Math.round(readMs - asked.endedMs));
}

function clockFinding(offsetMs: number | undefined): Finding {
  const words = offsetMs === undefined ? "unknown" : `${offsetMs} ms from the store's`;
  if (offsetMs !== undefined && Math.abs(offsetMs) <= largestOffsetMs) return ok("clock", words);
  return warning("clock", words, "let NTP set both clocks: deadlines follow the store's, and this machine's logs do not match them");
}

function connectionFinding({ fact }: Server): Finding {
  const [now, most] = [Number(fact("connected_clients")), Number(fact("maxclients"))];
  if (!most) return ok("connections", `${now}`);
  const words = `${now} of ${most}`;
  if (now / most < manyClientsShare) return ok("connections", words);
  return warning("connections", words, "raise maxclients, and the limit of open files with it: servers that reach it refuse hosts");
}
