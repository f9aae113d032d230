/** The host's configuration: flags (`--redis-url`) win over variables (SWITCHYARD_REDIS_URL). All mistakes are told at once. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  blobPlaceForms,
  type LogLevel,
  labelPattern,
  logLevels,
  readBlobPlace,
  readTracingSettings,
  type TracingSettings,
} from "@switchyard/protocol";
import { type RedisTls, readRedisAddress, readRedisTls, redisAddressForms } from "@switchyard/protocol/redis";
import { z } from "zod";

const megabyte = 1024 * 1024;
const highestPort = 65_535;

const address = z
  .string()
  .refine((text) => Number(/^.+:(\d{1,5})$/.exec(text)?.[1] ?? Number.NaN) <= highestPort, {
    message: `expected host:port, such as 127.0.0.1:8002, with a port from 0 to ${highestPort}`,
    abort: true,
  })
  .transform((text) => {
    const at = text.lastIndexOf(":");
    return { host: text.slice(0, at).replace(/^\[|\]$/g, ""), port: Number(text.slice(at + 1)) };
  });

/** Parts between commas; a name that is given twice must be given the same value. */
function pairs(pattern: RegExp, shape: string) {
  return z
    .string()
    .default("")
    .transform((text, context) => {
      const found = new Map<string, string>();
      for (const part of text.split(",").map((piece) => piece.trim())) {
        if (part === "") continue;
        const at = part.indexOf("=");
        const [name, value] = [part.slice(0, at), part.slice(at + 1)];
        const before = found.get(name);
        if (!pattern.test(part)) context.addIssue({ code: "custom", message: `expected ${shape} pairs, "${part}" is none` });
        else if (before !== undefined && before !== value)
          context.addIssue({ code: "custom", message: `${name} is said to be both "${before}" and "${value}"` });
        else found.set(name, value);
      }
      return Object.fromEntries(found);
    });
}

/** What it holds is sent nowhere and told to nobody; credentials would be both. */
function isPlainUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && url.username === "" && url.password === "";
}

const list = (text: string): string[] => [
  ...new Set(
    text
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== ""),
  ),
];

const schema = z.object({
  REDIS_URL: z
    .string({ error: "is required: redis://host:port of the cluster's Redis" })
    .refine((text) => readRedisAddress(text) !== undefined, `expected ${redisAddressForms}`),
  REDIS_CA: z.string().optional(),
  REDIS_CERT: z.string().optional(),
  REDIS_KEY: z.string().optional(),
  MODELS: z.string().default("./models"),
  DATA: z.string().default("./.switchyard"),
  BLOBS: z
    .string()
    .transform((text, context) => {
      const place = readBlobPlace(text.trim());
      if (place === undefined) context.addIssue({ code: "custom", message: `expected ${blobPlaceForms}` });
      return place;
    })
    .optional(),
  URL: z
    .string()
    .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), "expected http://host:port of a coordinator")
    .optional(),
  METRICS: address.prefault("127.0.0.1:8002"),
  WORKER_INDEX: z.coerce.number().int().min(0).max(highestPort).optional(),
  HOST_ID: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "expected letters, digits, dots, dashes")
    .optional(),
  LABELS: pairs(labelPattern, "name=value"),
  BRIDGE: pairs(/^[a-z0-9][a-z0-9._-]{0,62}=https?:\/\/[^\s=,]+$/, "framework=http://host:port").refine(
    (servers) => servers.onnx === undefined && Object.values(servers).every(isPlainUrl),
    "expected addresses of servers, without user or password, by any framework but onnx, which a worker runs itself",
  ),
  BRIDGE_TIMEOUT_MS: z.coerce.number().int().min(1).max(3_600_000).default(30_000),
  THREADS: z.coerce.number().int().min(1).max(256).optional(),
  PROVIDERS: z
    .string()
    .default("cpu")
    .transform(list)
    .refine((names) => names.length > 0, "expected names of execution providers, such as cuda"),
  LINGER_MS: z.coerce.number().int().min(0).max(1_000).default(20),
  CACHE_MB: z.coerce.number().min(16).optional(),
  CACHE_MODELS: z.coerce.number().int().min(1).default(64),
  FETCHED_MB: z.coerce.number().min(1).default(102_400),
  DRAIN_MS: z.coerce.number().int().min(0).default(25_000),
  LOG_LEVEL: z.enum(logLevels, { error: `expected one of ${logLevels.join(", ")}` }).default("info"),
  PARENT_PIPE: z.coerce.number().int().min(3).optional(),
});

const names = Object.keys(schema.shape) as (keyof typeof schema.shape)[];
/** Never repeated in a message: they may hold a password. */
const secrets = new Set(["REDIS_URL", "BRIDGE"]);
const isSecret = (name: string, value: string): boolean => secrets.has(name) || /:\/\/[^/]*@/.test(value);
const flagOf = (name: string): string => name.toLowerCase().replaceAll("_", "-");

export interface WorkerConfig {
  redisUrl: string;
  redisTls: RedisTls;
  modelsFolder: string;
  /** The coordinators' folder for values too large for Redis. */
  blobsFolder: string;
  /** Where files of uploaded versions are kept. */
  fetchedFolder: string;
  /** Asked for large values and uploaded versions by a host that does not see the coordinators' folder. */
  coordinatorUrl: string | undefined;
  metrics: { host: string; port: number };
  /** Absent: by the machine and the port that its figures get, see `hostIdAt`. */
  hostId: string | undefined;
  labels: Record<string, string>;
  /** Servers that run models of further frameworks, by framework. */
  bridges: Record<string, string>;
  bridgeTimeoutMs: number;
  threads: number | undefined;
  providers: string[];
  lingerMs: number;
  /** What it lends to models; absent: by what the machine has. */
  cacheBytes: number | undefined;
  cacheModels: number;
  /** What fetched files of uploaded versions may take on the disk. */
  fetchedBytes: number;
  drainMs: number;
  logLevel: LogLevel;
  /** By OpenTelemetry's own variables. Absent: nothing is traced. */
  tracing: TracingSettings | undefined;
  parentPipe: number | undefined;
}

/** Throws an Error whose message lists every mistake: variable, what was expected, what came. */
export function readConfig(source: { argv: readonly string[]; env: Record<string, string | undefined> }): WorkerConfig {
  const options = Object.fromEntries(names.map((name) => [flagOf(name), { type: "string" as const }]));
  const { values } = parseArgs({ args: [...source.argv], options, strict: true });
  const given = Object.fromEntries(
    names
      .map((name) => [name, values[flagOf(name)] ?? (source.env[`SWITCHYARD_${name}`] || undefined)])
      .filter(([, value]) => value !== undefined),
  );
  const parsed = schema.safeParse(given);
  const told = (name: string, mistake: string): string => `  SWITCHYARD_${name} (--${flagOf(name)}): ${mistake}`;
  const mistakes = (parsed.error?.issues ?? []).map((issue) => {
    const name = String(issue.path[0]);
    const value = given[name];
    const got = value === undefined ? "" : isSecret(name, value) ? ", got something else" : `, got "${value}"`;
    return told(name, `${issue.message}${got}`);
  });
  const isTls = given.REDIS_URL === undefined ? undefined : readRedisAddress(given.REDIS_URL)?.tls;
  const { tls: redisTls, mistakes: unusable } = readRedisTls(given, { isTls, read: (file) => readFileSync(file, "utf8") });
  mistakes.push(...unusable.map(([name, mistake]) => told(name, mistake)));
  const isBucket = /^s3:/i.test(given.BLOBS ?? "");
  if (isBucket && given.URL === undefined)
    mistakes.push(
      told("URL", "is required where SWITCHYARD_BLOBS is a bucket: http://host:port of a coordinator, which hands out large values"),
    );
  const tracing = readTracingSettings(source.env);
  mistakes.push(...tracing.mistakes.map((mistake) => `  ${mistake}`));
  if (!parsed.success || mistakes.length > 0) throw mistaken(mistakes);
  const config = parsed.data;
  const index = config.WORKER_INDEX ?? 1;
  const port = config.METRICS.port === 0 ? 0 : config.METRICS.port + index;
  if (port > highestPort) {
    throw mistaken([
      `  SWITCHYARD_METRICS (--metrics): worker ${index} listens on the port + ${index}; expected at most ${highestPort}, got ${port}`,
    ]);
  }
  return {
    redisUrl: config.REDIS_URL,
    redisTls,
    modelsFolder: config.MODELS,
    // of a bucket hosts see nothing: coordinators hand out what is there
    blobsFolder: config.BLOBS && "path" in config.BLOBS ? config.BLOBS.path : join(config.DATA, "blobs"),
    fetchedFolder: join(config.DATA, "fetched-models"),
    coordinatorUrl: config.URL,
    metrics: { host: config.METRICS.host, port },
    hostId: hostIdOf(config.HOST_ID, config.WORKER_INDEX),
    labels: config.LABELS,
    bridges: config.BRIDGE,
    bridgeTimeoutMs: config.BRIDGE_TIMEOUT_MS,
    threads: config.THREADS,
    providers: config.PROVIDERS,
    lingerMs: config.LINGER_MS,
    cacheBytes: config.CACHE_MB === undefined ? undefined : config.CACHE_MB * megabyte,
    cacheModels: config.CACHE_MODELS,
    fetchedBytes: config.FETCHED_MB * megabyte,
    drainMs: config.DRAIN_MS,
    logLevel: config.LOG_LEVEL,
    tracing: tracing.settings,
    parentPipe: config.PARENT_PIPE,
  };
}

function mistaken(mistakes: readonly string[]): Error {
  return new Error(`the worker's configuration has mistakes:\n${mistakes.join("\n")}`);
}

/** Workers that were started together differ by their index, which each keeps when it is started again. */
function hostIdOf(named: string | undefined, index: number | undefined): string | undefined {
  if (index === undefined) return named;
  return `${named ?? machineName()}-${index}`;
}

/**
 * The id of a worker that was started alone. No two processes of a machine have one port, and a worker that is started again mostly gets the port that
 * it had: so what is kept under its id, such as a drain, outlives a restart.
 */
export function hostIdAt(port: number): string {
  return `${machineName()}-${port}`;
}

/** Machines of one name, such as `localhost`, differ by what the system calls them: where it does, no two hosts share an id. */
export function machineName(name = hostname(), idFile = "/etc/machine-id"): string {
  const readable = name.replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  const id = machineIdIn(idFile);
  // the id itself is not to be told, as keys may be made of it
  const differs = id === undefined ? "" : `-${createHash("sha256").update(`switchyard ${id}`).digest("hex").slice(0, 8)}`;
  return `${readable.slice(0, 40) || "host"}${differs}`;
}

/** Undefined where there is none, or none yet. */
function machineIdIn(file: string): string | undefined {
  try {
    const id = readFileSync(file, "utf8").trim();
    return /^[0-9a-f]{32}$/.test(id) ? id : undefined;
  } catch {
    return undefined;
  }
}
