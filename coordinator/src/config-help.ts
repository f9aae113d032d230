/** What `up --help` and `coordinator --help` print: every setting in words. The reference page is made from the same words. */

import { flagOf, type SettingName, settingNames } from "./config.ts";

export const settingWords: Readonly<Record<SettingName, { default: string; meaning: string }>> = {
  HTTP: { default: "127.0.0.1:8000", meaning: "REST and the Open Inference Protocol" },
  GRPC: { default: "127.0.0.1:8001", meaning: "the Open Inference Protocol over gRPC; `off` for none" },
  METRICS: {
    default: "127.0.0.1:8002",
    meaning:
      "the coordinator's `/metrics`; worker n serves its own on this port + n, and further coordinators on the ports behind the workers'",
  },
  REDIS_URL: { default: "embedded", meaning: "a Redis of your own, 7.0 or newer; `up` starts one when unset" },
  REDIS_CA: { default: "unset", meaning: "PEM file: who signed the certificates of a Redis with TLS; unset: whom Node trusts" },
  REDIS_CERT: { default: "unset", meaning: "PEM file: the certificate that is shown to Redis" },
  REDIS_KEY: { default: "unset", meaning: "PEM file: the private key of that certificate" },
  MODELS: { default: "./models", meaning: "the model repository" },
  DATA: { default: "./.switchyard", meaning: "files of the embedded Redis, large values, logs" },
  BLOBS: {
    default: "<data>/blobs",
    meaning:
      "values over 8 MiB, inputs that hosts on this machine read as files, and uploaded models; all coordinators share this folder, or bucket (`s3://bucket/prefix`)",
  },
  INPUT_FILES: {
    default: "auto",
    meaning:
      "inputs of 64 KiB to 8 MiB pass as files to hosts that see that folder on this machine: `auto` where Redis is on it, too; `yes` also where not; `no`",
  },
  S3_ENDPOINT: { default: "AWS", meaning: "the server of that bucket, as http://host:port" },
  S3_REGION: { default: "the AWS SDK's, or us-east-1 with an endpoint", meaning: "the bucket's region" },
  S3_PATH_STYLE: { default: "yes with an endpoint", meaning: "`yes`: requests name the bucket in the path; `no`: in the host's name" },
  COORDINATORS: {
    default: "1",
    meaning: "coordinator processes that `up` starts; they share `http` and `grpc`, and each uses a core",
  },
  WORKERS: { default: "1", meaning: "worker processes that `up` starts; 0 for none" },
  BIND_CORES: {
    default: "auto",
    meaning:
      "`auto`: where `up` may use exactly two cores, its only coordinator keeps to the first and the Redis that it starts to the second while both are busy; `always`: also while they are not; `no`: never",
  },
  API_KEYS: {
    default: "unset",
    meaning: "file of API keys, made by `switchyard keys`; without one there is one tenant, on loopback addresses only",
  },
  MCP_SERVERS: {
    default: "unset",
    meaning: "JSON file of MCP servers whose tools may be called, as other hosts have it: `mcpServers`; read again when it changes",
  },
  MAX_BODY: { default: "64MiB", meaning: "largest body of a request; over gRPC the largest message of a caller" },
  MAX_JSON: { default: "<max-body>", meaning: "largest JSON in a body; parsing holds other calls up by about 20 ms per MiB" },
  MAX_MODEL: { default: "2GiB", meaning: "largest file of a model that is uploaded" },
  MAX_QUEUE_JOBS: { default: "1000000", meaning: "most jobs that may wait for one model version; more are refused" },
  MAX_QUEUE_BYTES: { default: "1GiB", meaning: "most bytes of inputs, of usual jobs, that may wait for one model version" },
  RESULT_TTL: { default: "1h", meaning: "how long results are kept; a day longer it is known that there was a job" },
  MCP_MODEL_TOOLS: {
    default: "40",
    meaning: "in the Model Context Protocol each model has a tool of its own as long as there are no more models than this; 0 for never",
  },
  CORS_ORIGINS: { default: "none", meaning: "pages of these origins may call from a browser" },
  EXPECTED_HOSTS: { default: "0", meaning: "`/readyz` waits for this many workers; `up` sets it" },
  CACHE: { default: "<clone>/.cache/debian", meaning: "where a fetched Redis is kept" },
  LOG_LEVEL: { default: "info", meaning: "which lines are logged; `debug` has one for each change of each job's state" },
};

const programs = {
  up: "Start Redis, coordinators and workers on this machine, and keep them running until Ctrl-C.",
  coordinator: "Start a coordinator on a Redis that runs already (--redis-url is required).",
  doctor:
    "Check this machine, as `up` with the same options would find it, and say how to fix what is wrong; --json prints one JSON value.",
};

export function asksForHelp(argv: readonly string[]): boolean {
  return argv.includes("--help") || argv.includes("-h");
}

export function helpText(program: keyof typeof programs): string {
  const flags = settingNames.map((name) => `${flagOf(name)} <value>`);
  const width = Math.max(...flags.map((flag) => flag.length));
  const lines = settingNames.map((name, at) => {
    const { default: value, meaning } = settingWords[name];
    return `  ${flags[at]!.padEnd(width)}  ${meaning.replaceAll("`", "")} (${value})`;
  });
  if (program === "up") lines.push(`  ${"--verbose".padEnd(width)}  show all log lines on the terminal`);
  lines.push(`  ${"-h, --help".padEnd(width)}  print this`);
  return `Usage: switchyard ${program} [options]

${programs[program]}

Options, with their defaults in brackets; each is also a variable, such as SWITCHYARD_HTTP for --http:
${lines.join("\n")}
`;
}
