/** docs/reference/config.md and the README's table: what can be set, asked of the programs' own configuration readers. */

import { readFileSync } from "node:fs";
import { tracingVariables } from "@switchyard/protocol";
import { ConfigError, readConfig, shownPlace } from "../../coordinator/src/config.ts";
import { settingWords } from "../../coordinator/src/config-help.ts";
import { readConfig as readWorkerConfig } from "../../worker/src/config.ts";
import { ownSettingWords } from "../../worker/src/config-help.ts";
import { code, generatedPage, markdownTable, type Row } from "./markdown-table.ts";

interface Meaning {
  default: string;
  meaning: string;
}

/** Of `up` and `coordinator`. */
const meanings: Readonly<Record<string, Meaning>> = settingWords;

/** Of `worker`, beside REDIS_URL, MODELS, DATA, BLOBS and METRICS, which mean the same there. */
const workerMeanings: Readonly<Record<string, Meaning>> = ownSettingWords;
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
  if (meaning === undefined) throw new Error(`nothing is said about ${name}`);
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
    GRPC: grpc === undefined ? "off" : `${grpc.host}:${grpc.port}`,
    METRICS: `${metrics.host}:${metrics.port}`,
    MODELS: `.${models}`,
    DATA: `.${data}`,
    BLOBS: shownPlace(blobs).replace(data, "<data>"),
    WORKERS: String(workers),
    MAX_BODY: `${maxBodyBytes / 2 ** 20}MiB`,
    RESULT_TTL: `${resultTtlMs / 3_600_000}h`,
    EXPECTED_HOSTS: String(expectedHosts),
  };
  const worker = readWorkerConfig({ argv: [], env: { SWITCHYARD_REDIS_URL: "redis://localhost" } });
  const ofWorker = {
    LINGER_MS: String(worker.lingerMs),
    CACHE_MODELS: String(worker.cacheModels),
    FETCHED_MB: String(worker.fetchedBytes / 2 ** 20),
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

\`coordinator\` needs \`--redis-url\`. \`--verbose\` makes \`up\` show all log lines on the terminal. Without a file of
[API keys](../access.md) only loopback addresses are accepted for HTTP and gRPC.

## worker

${shared.map((name) => code(flagOf(name))).join(", ")} as above (\`--redis-url\` is required), and:

${markdownTable(configHead, workerRows)}

Under \`up\`, variables in the environment of \`up\` reach every worker, except \`SWITCHYARD_URL\`, which is
probably meant for the command line: its workers see the folder of large values, or ask its coordinator.

## Tracing

Off unless an endpoint is named; coordinators and workers read the same variables ([what for](../tracing.md)).

${markdownTable(
  ["variable", "default", "meaning"],
  tracingVariables.map(({ name, default: value, meaning }) => [code(name), code(value), meaning]),
)}

## The client and the command line

${markdownTable(
  ["variable", "default", "meaning"],
  [
    [
      code("SWITCHYARD_URL"),
      code("http://127.0.0.1:8000"),
      "where coordinators listen, several separated by commas; to a worker it means something else, see above",
    ],
    [
      code("SWITCHYARD_API_KEY"),
      code("unset"),
      "sent as a bearer token; needed where coordinators have a file of keys ([access](../access.md))",
    ],
    [code("TRACEPARENT"), code("unset"), "the trace that the command line's calls belong to; `TRACESTATE` goes along"],
  ],
)}`;
  return generatedPage("Configuration", "coordinator/src/config.ts and worker/src/config.ts", text);
}
