/**
 * What can be set from outside: flags and SWITCHYARD_ variables, flags winning. A flag is its variable without the prefix:
 * SWITCHYARD_REDIS_URL is --redis-url. Everything is checked at once and all mistakes are told together, before anything starts.
 */

import { readFileSync } from "node:fs";
import path from "node:path";
import {
  blobPlaceForms,
  isLoopback,
  type LogLevel,
  logLevels,
  readBlobPlace,
  readTracingSettings,
  type TracingSettings,
} from "@switchyard/protocol";
import { type RedisTls, readRedisAddress, readRedisTls, redisAddressForms, redisFileNames } from "@switchyard/protocol/redis";
import { z } from "zod";
import type { BucketPlace } from "./adapters/s3-bucket.ts";
import { type InputFileUse, inputFileUses } from "./ports/input-files.ts";

export interface Address {
  host: string;
  port: number;
}

export interface Config {
  http: Address;
  /** Undefined: no gRPC. */
  grpc?: Address;
  /** The coordinator's; worker n serves its own on this port + n, and further coordinators on those behind the workers'. */
  metrics: Address;
  /** Undefined: the embedded server. */
  redisUrl?: string;
  redisTls: RedisTls;
  /** Absolute paths of the files that `redisTls` was read from, by setting. */
  redisFiles: Partial<Record<(typeof redisFileNames)[number], string>>;
  /** Absolute path of the model repository. */
  models: string;
  /** Absolute path of the folder for the embedded server's files, blobs and logs. */
  data: string;
  /** Where values too large for Redis are: the absolute path of a folder, or a bucket. Coordinators of one cluster share it. */
  blobs: BlobPlace;
  /** Whether inputs are handed over as files in that folder, where all hosts see it. */
  inputFiles: InputFileUse;
  /** Coordinators of this machine that share `http` and `grpc`; this is one of them, or `up`, which starts them. */
  coordinators: number;
  workers: number;
  /** When `up`, where it may use exactly two cores, keeps the coordinator and its Redis to one each; auto: while both are busy. */
  bindCores: "auto" | "always" | "no";
  /** Absolute path of the key file. */
  apiKeys?: string;
  /** Absolute path of the file that names MCP servers whose tools are used. */
  mcpServers?: string;
  maxBodyBytes: number;
  /** Of JSON bodies and of the JSON part of binary ones; at most maxBodyBytes. */
  maxJsonBytes: number;
  /** Of each file of a model that is uploaded. */
  maxModelBytes: number;
  /** Bounds of each queue: jobs that wait, and bytes of their inputs. */
  maxQueueJobs: number;
  maxQueueBytes: number;
  resultTtlMs: number;
  /** Models that have a tool of their own in the Model Context Protocol, as long as there are not more. */
  mcpModelTools: number;
  /** Origins of browsers that may call; "*" for all. */
  corsOrigins: string[];
  /** /readyz waits for this many registered hosts. */
  expectedHosts: number;
  /** Where fetched programs are kept. */
  cache: string;
  logLevel: LogLevel;
  /** By OpenTelemetry's own variables. Absent: nothing is traced. */
  tracing?: TracingSettings;
  /** Show all log lines on the terminal (`up`). */
  verbose: boolean;
}

export type BlobPlace = { folder: string } | BucketPlace;

export interface ConfigSource {
  /** Without the program's name. */
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  /** What relative paths start from; default: the current folder. */
  folder?: string;
  /** What is wrong with the key file at this path; default: it is not looked at. */
  keyFileMistakes?: (path: string) => readonly string[];
  /** What is wrong with the file of MCP servers at this path; default: it is not looked at. */
  toolServerMistakes?: (path: string, env: ConfigSource["env"]) => readonly string[];
  /** Answers a file's text or throws; default: the disk. */
  readFile?: (path: string) => string;
}

/** All that is wrong with the configuration, one line each. */
export class ConfigError extends Error {
  readonly mistakes: readonly string[];
  constructor(mistakes: readonly string[]) {
    super(
      `The configuration has ${mistakes.length === 1 ? "a mistake" : `${mistakes.length} mistakes`}:\n${mistakes.map((line) => `  ${line}`).join("\n")}`,
    );
    this.name = "ConfigError";
    this.mistakes = mistakes;
  }
}

const wholeNumber = (text: string): number => (/^\d{1,15}$/.test(text) ? Number(text) : Number.NaN);

/** A schema over a text that `parse` understands; undefined means that it does not. */
function text<T>(expected: string, parse: (value: string) => T | undefined) {
  return z.string().transform((value, context): T => {
    const parsed = parse(value.trim());
    if (parsed !== undefined) return parsed;
    context.addIssue({ code: "custom", message: expected });
    return z.NEVER;
  });
}

function addressIn(value: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]/\s]+)):(\d{1,5})$/.exec(value);
  const port = Number(match?.[3]);
  const host = match?.[1] ?? match?.[2];
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

const address = text("host:port, such as 127.0.0.1:8000 or [::1]:8000", addressIn);
const addressOrOff = text("host:port, such as 127.0.0.1:8001 or [::1]:8001, or off", (value) =>
  value === "off" ? ("off" as const) : addressIn(value),
);

const count = (most: number) =>
  text(`a whole number from 0 to ${most}`, (value) => (wholeNumber(value) <= most ? wholeNumber(value) : undefined));

const atLeastOne = (most: number) =>
  text(`a whole number from 1 to ${most}`, (value) => {
    const number = wholeNumber(value);
    return number >= 1 && number <= most ? number : undefined;
  });

const sizeUnits: Record<string, number> = { "": 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

const size = text("a size from 1 byte to 4 GiB, such as 67108864 or 64MiB", (value) => {
  const [, digits = "", unit = ""] = /^(\d+) ?([A-Za-z]*)$/.exec(value) ?? [];
  const bytes = wholeNumber(digits) * (sizeUnits[unit] ?? Number.NaN);
  return bytes >= 1 && bytes <= 2 ** 32 ? bytes : undefined;
});

const timeUnits: Record<string, number> = { "": 1_000, ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

const duration = text("a time from 1 s to 30 days: seconds, or 30s, 15m, 1h, 7d", (value) => {
  const [, digits = "", unit = ""] = /^(\d+) ?([a-z]*)$/.exec(value) ?? [];
  const ms = wholeNumber(digits) * (timeUnits[unit] ?? Number.NaN);
  return ms >= 1_000 && ms <= 30 * 86_400_000 ? ms : undefined;
});

const redisUrl = text(redisAddressForms, (value) => (readRedisAddress(value) ? value : undefined));

const origins = text('origins such as https://example.org, separated by commas, or "*"', (value) => {
  const list = value.split(",").map((origin) => origin.trim());
  return list.every((origin) => origin === "*" || (URL.canParse(origin) && new URL(origin).origin === origin)) ? list : undefined;
});

const blobPlace = text(blobPlaceForms, readBlobPlace);

const endpoint = text("http://host:port or https://host, without path, user or password", (value) => {
  const url = URL.parse(value);
  const isPlain = url && /^https?:$/.test(url.protocol) && `${url.pathname}${url.search}${url.hash}${url.username}${url.password}` === "/";
  return isPlain ? url.origin : undefined;
});

const region = text("a region's name, such as eu-central-1", (value) => (/^[A-Za-z0-9-]{1,63}$/.test(value) ? value : undefined));

const inputFileUse = text("auto, yes or no", (value) => inputFileUses.find((use) => use === value));

const yesOrNo = text("yes or no", (value) => (value === "yes" || value === "no" ? value === "yes" : undefined));
const bindCores = text("auto, always or no", (value) => (["auto", "always", "no"] as const).find((when) => when === value));
const logLevel = text(`one of ${logLevels.join(", ")}`, (value) => logLevels.find((level) => level === value));

const nonEmpty = text("a path", (value) => (value === "" ? undefined : value));

const settings = z.object({
  HTTP: address.prefault("127.0.0.1:8000"),
  GRPC: addressOrOff.prefault("127.0.0.1:8001"),
  METRICS: address.prefault("127.0.0.1:8002"),
  REDIS_URL: redisUrl.optional(),
  REDIS_CA: nonEmpty.optional(),
  REDIS_CERT: nonEmpty.optional(),
  REDIS_KEY: nonEmpty.optional(),
  MODELS: nonEmpty.prefault("./models"),
  DATA: nonEmpty.prefault("./.switchyard"),
  BLOBS: blobPlace.optional(),
  INPUT_FILES: inputFileUse.prefault("auto"),
  S3_ENDPOINT: endpoint.optional(),
  S3_REGION: region.optional(),
  S3_PATH_STYLE: yesOrNo.optional(),
  COORDINATORS: atLeastOne(64).prefault("1"),
  WORKERS: count(256).prefault("1"),
  BIND_CORES: bindCores.prefault("auto"),
  API_KEYS: nonEmpty.optional(),
  MCP_SERVERS: nonEmpty.optional(),
  MAX_BODY: size.prefault("64MiB"),
  MAX_JSON: size.optional(),
  MAX_MODEL: size.prefault("2GiB"),
  MAX_QUEUE_JOBS: atLeastOne(100_000_000).prefault("1000000"),
  MAX_QUEUE_BYTES: size.prefault("1GiB"),
  RESULT_TTL: duration.prefault("1h"),
  MCP_MODEL_TOOLS: count(1_000).prefault("40"),
  CORS_ORIGINS: origins.optional(),
  EXPECTED_HOSTS: count(100_000).prefault("0"),
  CACHE: nonEmpty.optional(),
  LOG_LEVEL: logLevel.prefault("info"),
});

export type SettingName = keyof typeof settings.shape;
export const settingNames = Object.keys(settings.shape) as SettingName[];
export const flagOf = (name: string): string => `--${name.toLowerCase().replaceAll("_", "-")}`;
const isSecret = (name: string, value: string): boolean => name === "REDIS_URL" || /:\/\/[^/]*@/.test(value);

interface Given {
  value: string;
  /** The flag or variable, as the user wrote it. */
  from: string;
}

function readFlags(argv: readonly string[], mistakes: string[]): { given: Map<string, Given>; verbose: boolean } {
  const given = new Map<string, Given>();
  let verbose = false;
  for (let index = 0; index < argv.length; index++) {
    const [flag = "", inline] = (argv[index] ?? "").split(/=(.*)/s, 2);
    const name = settingNames.find((each) => flagOf(each) === flag);
    if (flag === "--verbose" && inline === undefined) verbose = true;
    else if (name === undefined) mistakes.push(`${flag}: no such flag; known are ${settingNames.map(flagOf).join(", ")}, --verbose`);
    else {
      const value = inline ?? argv[++index];
      if (value === undefined) mistakes.push(`${flag}: a value is expected after it, and nothing follows`);
      else given.set(name, { value, from: flag });
    }
  }
  return { given, verbose };
}

/** Reads flags and variables; an empty variable counts as unset. Throws a ConfigError that lists every mistake. */
export function readConfig(source: ConfigSource): Config {
  const mistakes: string[] = [];
  const { given, verbose } = readFlags(source.argv, mistakes);
  for (const name of settingNames) {
    const value = source.env[`SWITCHYARD_${name}`];
    if (!given.has(name) && value !== undefined && value !== "") given.set(name, { value, from: `SWITCHYARD_${name}` });
  }
  const parsed = settings.safeParse(Object.fromEntries([...given].map(([name, { value }]) => [name, value])));
  for (const issue of parsed.error?.issues ?? []) {
    const name = String(issue.path[0]);
    const { from, value } = given.get(name) ?? { from: name, value: "" };
    mistakes.push(`${from}: expected ${issue.message}, got ${isSecret(name, value) ? "something else" : JSON.stringify(value)}`);
  }
  if (parsed.data) mistakes.push(...contradictions(parsed.data, given));
  const folder = source.folder ?? process.cwd();
  const keyFile = given.get("API_KEYS");
  if (keyFile && keyFile.value.trim() !== "") {
    const found = source.keyFileMistakes?.(path.resolve(folder, keyFile.value.trim())) ?? [];
    mistakes.push(...found.map((mistake) => `${keyFile.from}: ${mistake}`));
  }
  const serverFile = given.get("MCP_SERVERS");
  if (serverFile && serverFile.value.trim() !== "") {
    const found = source.toolServerMistakes?.(path.resolve(folder, serverFile.value.trim()), source.env) ?? [];
    mistakes.push(...found.map((mistake) => `${serverFile.from}: ${mistake}`));
  }
  const redisFiles = Object.fromEntries(
    redisFileNames.flatMap((name) => {
      const file = given.get(name)?.value.trim();
      return file ? [[name, path.resolve(folder, file)]] : [];
    }),
  );
  const redis = given.get("REDIS_URL");
  const isTls = redis ? readRedisAddress(redis.value.trim())?.tls : false;
  const { tls: redisTls, mistakes: unusable } = readRedisTls(redisFiles, { isTls, read: source.readFile ?? readText });
  mistakes.push(...unusable.map(([name, mistake]) => `${given.get(name)?.from}: ${mistake}`));
  const tracing = readTracingSettings(source.env);
  mistakes.push(...tracing.mistakes);
  if (!parsed.success || mistakes.length > 0) throw new ConfigError(mistakes);

  const { HTTP, GRPC, METRICS, REDIS_URL, MODELS, DATA, WORKERS, API_KEYS, MCP_SERVERS, CACHE } = parsed.data;
  return {
    http: HTTP,
    ...(GRPC === "off" ? {} : { grpc: GRPC }),
    metrics: METRICS,
    ...(REDIS_URL === undefined ? {} : { redisUrl: REDIS_URL }),
    redisTls,
    redisFiles,
    models: path.resolve(folder, MODELS),
    data: path.resolve(folder, DATA),
    blobs: blobPlaceOf(parsed.data, folder),
    inputFiles: parsed.data.INPUT_FILES,
    coordinators: parsed.data.COORDINATORS,
    workers: WORKERS,
    bindCores: parsed.data.BIND_CORES,
    ...(API_KEYS === undefined ? {} : { apiKeys: path.resolve(folder, API_KEYS) }),
    ...(MCP_SERVERS === undefined ? {} : { mcpServers: path.resolve(folder, MCP_SERVERS) }),
    maxBodyBytes: parsed.data.MAX_BODY,
    maxJsonBytes: Math.min(parsed.data.MAX_JSON ?? parsed.data.MAX_BODY, parsed.data.MAX_BODY),
    maxModelBytes: parsed.data.MAX_MODEL,
    maxQueueJobs: parsed.data.MAX_QUEUE_JOBS,
    maxQueueBytes: parsed.data.MAX_QUEUE_BYTES,
    resultTtlMs: parsed.data.RESULT_TTL,
    mcpModelTools: parsed.data.MCP_MODEL_TOOLS,
    corsOrigins: parsed.data.CORS_ORIGINS ?? [],
    expectedHosts: parsed.data.EXPECTED_HOSTS,
    cache: CACHE === undefined ? path.resolve(import.meta.dirname, "../../.cache/debian") : path.resolve(folder, CACHE),
    logLevel: parsed.data.LOG_LEVEL,
    ...(tracing.settings && { tracing: tracing.settings }),
    verbose,
  };
}

function blobPlaceOf({ BLOBS, DATA, ...s3 }: z.infer<typeof settings>, folder: string): BlobPlace {
  if (BLOBS === undefined) return { folder: path.resolve(folder, DATA, "blobs") };
  if ("path" in BLOBS) return { folder: path.resolve(folder, BLOBS.path) };
  const { S3_ENDPOINT, S3_PATH_STYLE = S3_ENDPOINT !== undefined, S3_REGION } = s3;
  // servers other than AWS take any region, and the SDK insists on one
  const region = S3_REGION ?? (S3_ENDPOINT === undefined ? undefined : "us-east-1");
  return {
    ...BLOBS,
    ...(S3_ENDPOINT !== undefined && { endpoint: S3_ENDPOINT }),
    ...(region !== undefined && { region }),
    pathStyle: S3_PATH_STYLE,
  };
}

export function shownPlace(place: BlobPlace): string {
  if ("folder" in place) return place.folder;
  return `s3://${place.bucket}${place.prefix === "" ? "" : `/${place.prefix}`}`;
}

/** The variables that say it again, for the programs that `up` starts. */
export function blobSettings(place: BlobPlace): Record<string, string | undefined> {
  const isFolder = "folder" in place;
  return {
    SWITCHYARD_BLOBS: shownPlace(place),
    SWITCHYARD_S3_ENDPOINT: isFolder ? undefined : place.endpoint,
    SWITCHYARD_S3_REGION: isFolder ? undefined : place.region,
    SWITCHYARD_S3_PATH_STYLE: isFolder ? undefined : place.pathStyle ? "yes" : "no",
  };
}

/** Where each coordinator of this machine has its metrics: further ones on the ports behind the workers'. Port 0, any, stays 0. */
export function coordinatorMetrics({ coordinators, metrics, workers }: Pick<Config, "coordinators" | "metrics" | "workers">): Address[] {
  const ports = Array.from({ length: coordinators }, (_, at) => (at === 0 || metrics.port === 0 ? 0 : workers + at));
  return ports.map((behind) => ({ ...metrics, port: metrics.port + behind }));
}

const readText = (file: string): string => readFileSync(file, "utf8");

/** Values that are right alone and wrong together. */
function contradictions(values: z.infer<typeof settings>, given: Map<string, Given>): string[] {
  const found: string[] = [];
  const named = (name: SettingName): string => given.get(name)?.from ?? `SWITCHYARD_${name}`;
  for (const name of ["HTTP", "GRPC"] as const) {
    const at = values[name];
    if (at === "off" || isLoopback(at.host) || values.API_KEYS !== undefined) continue;
    found.push(
      `${named(name)}: expected a loopback address (127.0.0.1, [::1], localhost) because no API keys are set (${named("API_KEYS")}), got ${JSON.stringify(given.get(name)?.value)}`,
    );
  }
  for (const name of ["S3_ENDPOINT", "S3_REGION", "S3_PATH_STYLE"] as const) {
    if (values[name] === undefined || (values.BLOBS && "bucket" in values.BLOBS)) continue;
    found.push(`${named(name)}: expected only with ${named("BLOBS")} as s3://bucket, got ${JSON.stringify(given.get(name)?.value)}`);
  }
  const used = new Map<string, SettingName>();
  for (const name of ["HTTP", "GRPC", "METRICS"] as const) {
    const at = values[name];
    if (at === "off" || at.port === 0) continue;
    const place = `${at.host}:${at.port}`;
    const other = used.get(place);
    if (other !== undefined) found.push(`${named(name)}: expected an address of its own, got ${place}, which ${named(other)} has`);
    used.set(place, name);
  }
  return found;
}
