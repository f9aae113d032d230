/**
 * `switchyard doctor`: looks at this machine and at the store, and says what is there, what is missing and how to mend it.
 * It changes nothing and starts nothing. Exit code 1 when something needed is missing.
 */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { FilesystemModels } from "../adapters/filesystem-models.ts";
import { systemClock } from "../clock.ts";
import { type Address, type Config, ConfigError, coordinatorMetrics, readConfig, shownPlace } from "../config.ts";
import { asksForHelp, helpText } from "../config-help.ts";
import { bucketFault } from "../open-blobs.ts";
import { canFetchDebianPackages } from "./debian-packages.ts";
import { type Finding, missing, ok, warning } from "./finding.ts";
import { keyFileFindings } from "./key-file-check.ts";
import { holderOf } from "./process-lock.ts";
import { cachedRedis, redisOnPath } from "./redis-server.ts";
import { storeFindings } from "./store-check.ts";
import { toolServerFindings } from "./tool-server-check.ts";

const clock = systemClock;
const execFileAsync = promisify(execFile);
const oldestNode = 24;

function checkNode(): Finding {
  const isNew = Number.parseInt(process.versions.node, 10) >= oldestNode;
  return isNew
    ? ok("node", process.version)
    : missing("node", process.version, `run through npm start or npx switchyard, which bring Node ${oldestNode}`);
}

function checkDependencies(): Finding {
  const lost = ["fastify", "ioredis", "bullmq", "zod"].filter((name) => {
    try {
      import.meta.resolve(name);
      return false;
    } catch {
      return true;
    }
  });
  return lost.length === 0 ? ok("dependencies", "installed") : missing("dependencies", `not installed: ${lost.join(", ")}`, "npm ci");
}

/** In a child: loading the native library takes seconds, and a broken one may end the process. */
async function checkRuntime(): Promise<Finding> {
  const script =
    'const ort = require("node:module").createRequire(process.argv[1])("onnxruntime-node"); const { node, common } = ort.env.versions;' +
    "console.log(node ?? common)";
  try {
    const worker = fileURLToPath(import.meta.resolve("@switchyard/worker/main"));
    const { stdout } = await execFileAsync(process.execPath, ["-e", script, worker], { timeout: 60_000 });
    return ok("onnxruntime", `${stdout.trim()} loads`);
  } catch (error) {
    const why =
      (error as { stderr?: string }).stderr
        ?.trim()
        .split("\n")
        .find((line) => /error/i.test(line)) ?? (error as Error).message;
    return missing("onnxruntime", `does not load: ${why.split("\n")[0]}`, "npm ci; it needs a 64-bit Linux with glibc, macOS or Windows");
  }
}

async function checkRedisProgram(config: Config): Promise<Finding> {
  const subject = "redis-server";
  const onPath = await redisOnPath(process.env.PATH ?? "");
  if (onPath) return ok(subject, `${onPath.kind} ${onPath.version} at ${onPath.path}`);
  const cached = await cachedRedis(config.cache);
  if (cached) return ok(subject, `${cached.kind} ${cached.version}, fetched into ${config.cache}`);
  if (canFetchDebianPackages()) return ok(subject, "not on PATH; `switchyard up` fetches the distribution's packages at its first start");
  const fix = "install redis-server or valkey-server 7 or newer, or set SWITCHYARD_REDIS_URL";
  return config.redisUrl === undefined
    ? missing(subject, "none on PATH, and its packages cannot be fetched here", fix)
    : warning(subject, "none, but a running one is configured", fix);
}

interface RunningUp {
  pid?: number;
  redisUrl?: string;
}

function runningUp(config: Config): RunningUp {
  const pid = holderOf(path.join(config.data, "up.pid"));
  const server = holderOf(path.join(config.data, "redis", "redis.pid"));
  const endpoint = path.join(config.data, "redis", "url");
  const redisUrl = server !== undefined && existsSync(endpoint) ? readFileSync(endpoint, "utf8").trim() : undefined;
  return { ...(pid === undefined ? {} : { pid }), ...(redisUrl === undefined ? {} : { redisUrl }) };
}

async function checkPort(name: "http" | "grpc" | "metrics", address: Address, up: RunningUp): Promise<Finding> {
  const subject = `${name} port`;
  const shown = `${address.host}:${address.port}`;
  const probe = createServer();
  try {
    probe.listen({ host: address.host, port: address.port, exclusive: true }); // throws where there is no such port
    await once(probe, "listening");
  } catch (error) {
    if (up.pid !== undefined) return ok(subject, `${shown} is taken while process ${up.pid} (switchyard up) runs on this data folder`);
    return warning(
      subject,
      `${shown}: ${(error as NodeJS.ErrnoException).code}`,
      `end what listens there, or choose another address with --${name}`,
    );
  }
  probe.close();
  return ok(subject, `${shown} is free`);
}

async function checkModels(config: Config): Promise<Finding> {
  if (!existsSync(config.models))
    return missing("models", `${config.models} does not exist`, "create it, or name another with SWITCHYARD_MODELS (--models)");
  const { versions, problems } = await new FilesystemModels({ root: config.models }).scan();
  const broken = [
    ...versions.flatMap(({ model, version, failure }) => (failure === undefined ? [] : [`${model}/${version}: ${failure}`])),
    ...problems.map(({ path: place, problem }) => `${place}: ${problem}`),
  ];
  const usable = versions.filter(({ failure }) => failure === undefined).length;
  const counted = `${usable} usable ${usable === 1 ? "version" : "versions"} in ${config.models}`;
  if (broken.length === 0 && usable > 0) return ok("models", counted);
  if (broken.length === 0) return warning("models", counted, "put models there as <model>/<version>/model.onnx");
  const some = broken.slice(0, 10).join("; ");
  return warning(
    "models",
    `${counted}; not usable: ${some}${broken.length > 10 ? `; and ${broken.length - 10} more` : ""}`,
    "mend or remove these files",
  );
}

async function checkBlobs(config: Config): Promise<Finding[]> {
  const log = { info() {}, warn() {}, error() {} };
  const fault = await bucketFault({ blobs: config.blobs, dataFolder: config.data, clock, log });
  if ("folder" in config.blobs) return [];
  const subject = "large values";
  if (fault === undefined) return [ok(subject, `${shownPlace(config.blobs)} takes and gives them`)];
  return [missing(subject, fault.found, fault.fix)];
}

/** All findings, in the order in which one would mend them. */
export async function examine(config: Config): Promise<Finding[]> {
  const up = runningUp(config);
  return [
    checkNode(),
    checkDependencies(),
    await checkRuntime(),
    await checkRedisProgram(config),
    ...(await storeFindings(config, up.redisUrl)),
    ...(await checkBlobs(config)),
    await checkPort("http", config.http, up),
    ...(config.grpc ? [await checkPort("grpc", config.grpc, up)] : []),
    ...(await Promise.all(coordinatorMetrics(config).map((address) => checkPort("metrics", address, up)))),
    await checkModels(config),
    ...keyFileFindings(config.apiKeys, clock.nowMs()),
    ...toolServerFindings(config.mcpServers),
  ];
}

function print(findings: readonly Finding[]): void {
  const marks = { ok: "ok     ", warning: "warning", missing: "MISSING" };
  for (const { subject, state, found, fix } of findings) {
    console.log(`${marks[state]}  ${subject}: ${found}`);
    if (fix !== undefined) console.log(`         → ${fix}`);
  }
}

if (import.meta.main) {
  const argv = process.argv.slice(2);
  if (asksForHelp(argv)) {
    console.log(helpText("doctor").trimEnd());
    process.exit(0);
  }
  try {
    const findings = await examine(readConfig({ argv: argv.filter((word) => word !== "--json"), env: process.env }));
    if (argv.includes("--json")) console.log(JSON.stringify({ findings }));
    else print(findings);
    process.exitCode = findings.some(({ state }) => state === "missing") ? 1 : 0;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    process.exitCode = 2;
  }
}
