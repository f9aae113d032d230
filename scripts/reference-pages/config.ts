/** docs/reference/config.md and the README's table: what can be set, asked of the programs' own configuration readers. */

import { readFileSync } from "node:fs";
import { ConfigError, readConfig } from "../../coordinator/src/config.ts";
import { readConfig as readWorkerConfig } from "../../worker/src/config.ts";
import { code, generatedPage, markdownTable, type Row } from "./markdown-table.ts";

interface Meaning {
  default: string;
  meaning: string;
}

/** Of `up` and `coordinator`. */
const meanings: Readonly<Record<string, Meaning>> = {
  HTTP: { default: "127.0.0.1:8000", meaning: "REST and the Open Inference Protocol" },
  GRPC: { default: "127.0.0.1:8001", meaning: "reserved: gRPC is not built yet and nothing listens there" },
  METRICS: { default: "127.0.0.1:8002", meaning: "the coordinator's `/metrics`; worker n serves its own on this port + n" },
  REDIS_URL: { default: "embedded", meaning: "a Redis of your own, 7.0 or newer; `up` starts one when unset" },
  MODELS: { default: "./models", meaning: "the model repository" },
  DATA: { default: "./.switchyard", meaning: "files of the embedded Redis, large values, logs" },
  BLOBS: { default: "<data>/blobs", meaning: "values over 8 MiB; all coordinators share this folder" },
  WORKERS: { default: "1", meaning: "worker processes that `up` starts; 0 for none" },
  API_KEYS: { default: "unset", meaning: "reserved: keys are not built yet, and setting it is refused" },
  MAX_BODY: { default: "64MiB", meaning: "largest body of a request" },
  RESULT_TTL: { default: "1h", meaning: "how long results are kept; a day longer it is known that there was a job" },
  CORS_ORIGINS: { default: "none", meaning: "pages of these origins may call from a browser" },
  EXPECTED_HOSTS: { default: "0", meaning: "`/readyz` waits for this many workers; `up` sets it" },
  CACHE: { default: "<clone>/.cache/debian", meaning: "where a fetched Redis is kept" },
};

/** Of `worker`, beside REDIS_URL, MODELS, DATA, BLOBS and METRICS, which mean the same there. */
const workerMeanings: Readonly<Record<string, Meaning>> = {
  URL: { default: "unset", meaning: "a coordinator that hands out large values, where the worker does not see their folder" },
  WORKER_INDEX: { default: "1", meaning: "n of the metrics port and of the default id" },
  HOST_ID: { default: "<host name>-<n>", meaning: "name in `/v1/hosts`" },
  LABELS: { default: "none", meaning: "`name=value` pairs, separated by commas, shown in `/v1/hosts`" },
  THREADS: { default: "the cores", meaning: "threads within one operator of a model" },
  PROVIDERS: { default: "cpu", meaning: "execution providers of ONNX Runtime, best first, separated by commas" },
  LINGER_MS: { default: "20", meaning: "how long a worker waits at an empty queue before it gives up its ticket" },
  CACHE_MB: { default: "half the memory", meaning: "loaded models may take this much; the one used longest ago goes first" },
  CACHE_MODELS: { default: "64", meaning: "most models loaded at once" },
  DRAIN_MS: { default: "25000", meaning: "how long a worker that is asked to end finishes what it has begun" },
};
/** Set by `up` for the processes that it starts. */
const internal = new Set(["PARENT_PIPE"]);

const flagOf = (name: string): string => `--${name.toLowerCase().replaceAll("_", "-")}`;

/** The names that the coordinator's reader knows, from what it says about a flag that it does not know. */
export function coordinatorNames(): string[] {
  const known = /known are (.*), --verbose/.exec(complaint(() => readConfig({ argv: ["--no-such-flag"], env: {} })))?.[1] ?? "";
  return known.split(", ").map((flag) => flag.slice(2).toUpperCase().replaceAll("-", "_"));
}

/** The names in the worker's schema. */
export function workerNames(): string[] {
  const text = readFileSync(new URL("../../worker/src/config.ts", import.meta.url), "utf8");
  const schema = /const schema = z\.object\(\{([\s\S]*?)\n\}\);/.exec(text)?.[1] ?? "";
  return [...schema.matchAll(/^ {2}([A-Z_]+):/gm)].map(([, name]) => name!).filter((name) => !internal.has(name));
}

function complaint(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    return error instanceof ConfigError ? error.mistakes.join("\n") : (error as Error).message;
  }
  throw new Error("a mistake in the configuration was not told");
}

/** What the reader says it expects, when it gets what nobody could mean. */
function expected(name: string): string {
  const mistakes = complaint(() => readConfig({ argv: [flagOf(name), " "], env: {} }));
  const found = new RegExp(`^${flagOf(name)}: expected (.*), got `, "m").exec(mistakes)?.[1];
  if (found === undefined) throw new Error(`${flagOf(name)} takes anything, or says so in other words: ${mistakes}`);
  return found;
}

function meaningOf(meanings: Readonly<Record<string, Meaning>>, name: string): Meaning {
  const meaning = meanings[name];
  if (meaning === undefined) throw new Error(`scripts/reference-pages/config.ts says nothing about ${name}`);
  return meaning;
}

function checkDefaults(): void {
  const { http, grpc, metrics, models, data, blobs, workers, maxBodyBytes, resultTtlMs, expectedHosts } = readConfig({
    argv: [],
    env: {},
    folder: "/",
  });
  const found = {
    HTTP: `${http.host}:${http.port}`,
    GRPC: `${grpc.host}:${grpc.port}`,
    METRICS: `${metrics.host}:${metrics.port}`,
    MODELS: `.${models}`,
    DATA: `.${data}`,
    BLOBS: blobs.replace(data, "<data>"),
    WORKERS: String(workers),
    MAX_BODY: `${maxBodyBytes / 2 ** 20}MiB`,
    RESULT_TTL: `${resultTtlMs / 3_600_000}h`,
    EXPECTED_HOSTS: String(expectedHosts),
  };
  const worker = readWorkerConfig({ argv: [], env: { SWITCHYARD_REDIS_URL: "redis://localhost" } });
  const ofWorker = {
    LINGER_MS: String(worker.lingerMs),
    CACHE_MODELS: String(worker.cacheModels),
    DRAIN_MS: String(worker.drainMs),
    PROVIDERS: worker.providers.join(","),
  };
  for (const [table, values] of [
    [meanings, found],
    [workerMeanings, ofWorker],
  ] as const) {
    for (const [name, value] of Object.entries(values)) {
      if (meaningOf(table, name).default !== value) throw new Error(`the default of ${name} is ${value}, not ${table[name]?.default}`);
    }
  }
}

/** Flag, variable, default, meaning. */
export function configRows(): Row[] {
  checkDefaults();
  return coordinatorNames().map((name) => {
    const { default: value, meaning } = meaningOf(meanings, name);
    return [code(flagOf(name)), code(`SWITCHYARD_${name}`), code(value), meaning];
  });
}

export const configHead: Row = ["flag", "variable", "default", "meaning"];

export function configPage(): string {
  const rows = configRows().map((row, at) => [...row, expected(coordinatorNames()[at]!)]);
  const shared = workerNames().filter((name) => name in meanings);
  const own = workerNames().filter((name) => !(name in meanings));
  const workerRows = own.map((name) => {
    const { default: value, meaning } = meaningOf(workerMeanings, name);
    return [code(flagOf(name)), code(`SWITCHYARD_${name}`), code(value), meaning];
  });
  const text = `
Flags win over variables; an empty variable counts as unset. All mistakes are told at once, before anything starts. Relative paths start
from the folder in which the command is run.

## up and coordinator

${markdownTable([...configHead, "takes"], rows)}

\`coordinator\` needs \`--redis-url\`. \`--verbose\` makes \`up\` show all log lines on the terminal. Only loopback addresses are accepted
for HTTP and gRPC, because nothing would protect others yet.

## worker

${shared.map((name) => code(flagOf(name))).join(", ")} as above (\`--redis-url\` is required), and:

${markdownTable(configHead, workerRows)}

Under \`up\`, variables in the environment of \`up\` reach every worker.

## The client and the command line

${markdownTable(
  ["variable", "default", "meaning"],
  [
    [code("SWITCHYARD_URL"), code("http://127.0.0.1:8000"), "where coordinators listen, several separated by commas"],
    [code("SWITCHYARD_API_KEY"), code("unset"), "sent as a bearer token; servers of this version do not ask for one"],
  ],
)}`;
  return generatedPage("Configuration", "coordinator/src/config.ts and worker/src/config.ts", text);
}
