/** What `worker --help` prints: every setting in words. The reference page is made from the same words. */

/** Settings that mean the same to a coordinator. */
const sharedSettingWords = {
  REDIS_URL: { default: "required", meaning: "the cluster's Redis" },
  REDIS_CA: { default: "unset", meaning: "PEM file: who signed the certificates of a Redis with TLS; unset: whom Node trusts" },
  REDIS_CERT: { default: "unset", meaning: "PEM file: the certificate that is shown to Redis" },
  REDIS_KEY: { default: "unset", meaning: "PEM file: the private key of that certificate" },
  MODELS: { default: "./models", meaning: "the model repository" },
  DATA: { default: "./.switchyard", meaning: "where the folder of large values lies, and where fetched models are kept" },
  BLOBS: {
    default: "<data>/blobs",
    meaning: "the coordinators' folder of values over 8 MiB, and of inputs as files; a bucket (`s3://…`) needs `--url`",
  },
  LOG_LEVEL: { default: "info", meaning: "which lines are logged; `debug` has one for each attempt at each job" },
  METRICS: { default: "127.0.0.1:8002", meaning: "worker n serves `/metrics` and its health on this port + n" },
};

export const ownSettingWords: Readonly<Record<string, { default: string; meaning: string }>> = {
  URL: {
    default: "unset",
    meaning: "one coordinator that hands out large values, where the worker does not see their folder; not the client's list of that name",
  },
  WORKER_INDEX: { default: "1", meaning: "n of the metrics port; `up` gives each of its workers another, which also ends their ids" },
  HOST_ID: {
    default: "<host name>-<machine>-<metrics port>",
    meaning: "name in `/v1/hosts`, under which its drain is kept; given an index, `-<index>` follows (also the default's end)",
  },
  LABELS: { default: "none", meaning: "`name=value` pairs, separated by commas: what models and jobs may require or prefer" },
  BRIDGE: {
    default: "none",
    meaning: "`framework=url` pairs, separated by commas: servers of the Open Inference Protocol that run models of these frameworks",
  },
  BRIDGE_TIMEOUT_MS: { default: "30000", meaning: "how long such a server may take for one run" },
  THREADS: { default: "the cores", meaning: "threads within one operator of a model; one of light runs has one thread" },
  PROVIDERS: { default: "cpu", meaning: "execution providers of ONNX Runtime, best first, separated by commas" },
  LINGER_MS: { default: "20", meaning: "how long a worker waits at an empty queue before it gives up its ticket" },
  CACHE_MB: {
    default: "half the memory, or the GPU's where one is used",
    meaning: "loaded models may take this much; the one used longest ago goes first",
  },
  CACHE_MODELS: { default: "64", meaning: "most models loaded at once" },
  FETCHED_MB: {
    default: "102400",
    meaning:
      "fetched files of uploaded models may take this much disk; what is not loaded goes first, the one used longest ago before others",
  },
  DRAIN_MS: { default: "25000", meaning: "how long a worker that is asked to end finishes what it has begun" },
};

export function asksForHelp(argv: readonly string[]): boolean {
  return argv.includes("--help") || argv.includes("-h");
}

export function helpText(): string {
  const words = Object.entries({ ...sharedSettingWords, ...ownSettingWords });
  const flags = words.map(([name]) => `--${name.toLowerCase().replaceAll("_", "-")} <value>`);
  const width = Math.max(...flags.map((flag) => flag.length));
  const lines = words.map(([, word], at) => `  ${flags[at]!.padEnd(width)}  ${word.meaning.replaceAll("`", "")} (${word.default})`);
  return `Usage: switchyard worker [options]

Start a worker: it takes jobs from Redis and runs their models.

Options, with their defaults in brackets; each is also a variable, such as SWITCHYARD_REDIS_URL for --redis-url:
${lines.join("\n")}
  ${"-h, --help".padEnd(width)}  print this
`;
}
