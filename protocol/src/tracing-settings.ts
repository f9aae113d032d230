/**
 * Where spans go and which traces are recorded, by OpenTelemetry's own variables. Nothing goes anywhere unless an endpoint or the exporter
 * `otlp` is named. Mistakes never repeat values that may be secret.
 */

export interface TracingSettings {
  /** Where spans are posted. */
  endpoint: string;
  headers: Record<string, string>;
  timeoutMs: number;
  sampler: TraceSampler;
  /** Absent: by the program. */
  serviceName?: string;
  /** Further attributes of whoever exports. */
  resource: Record<string, string>;
}

export interface TraceSampler {
  /** Share of the traces begun here that is recorded, from 0 to 1. */
  share: number;
  /** Whether a caller's decision comes first. */
  followsCaller: boolean;
}

/** What the settings pages say of each variable. */
export const tracingVariables: readonly { name: string; default: string; meaning: string }[] = [
  {
    name: "OTEL_EXPORTER_OTLP_ENDPOINT",
    default: "unset",
    meaning: "where spans are sent, such as http://127.0.0.1:4318; unset: tracing is off",
  },
  { name: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", default: "<endpoint>/v1/traces", meaning: "the same as a whole URL, for spans alone" },
  { name: "OTEL_TRACES_EXPORTER", default: "otlp if an endpoint is set", meaning: "`otlp` or `none`" },
  { name: "OTEL_EXPORTER_OTLP_PROTOCOL", default: "http/protobuf", meaning: "no other is spoken; `…_TRACES_PROTOCOL` wins" },
  {
    name: "OTEL_EXPORTER_OTLP_HEADERS",
    default: "unset",
    meaning: "headers of the posts, `name=value` separated by commas; `…_TRACES_HEADERS` wins",
  },
  { name: "OTEL_EXPORTER_OTLP_TIMEOUT", default: "10000", meaning: "milliseconds that a post may take; `…_TRACES_TIMEOUT` wins" },
  { name: "OTEL_EXPORTER_OTLP_COMPRESSION", default: "none", meaning: "`none` or `gzip`; `…_TRACES_COMPRESSION` wins" },
  {
    name: "OTEL_TRACES_SAMPLER",
    default: "parentbased_always_on",
    meaning: "which traces are recorded; coordinators decide, workers follow",
  },
  { name: "OTEL_TRACES_SAMPLER_ARG", default: "1", meaning: "the share, of samplers by ratio" },
  { name: "OTEL_SERVICE_NAME", default: "switchyard-coordinator, switchyard-worker", meaning: "the name of the service in traces" },
  { name: "OTEL_RESOURCE_ATTRIBUTES", default: "unset", meaning: "further attributes of the process, `name=value` separated by commas" },
  { name: "OTEL_SDK_DISABLED", default: "false", meaning: "`true`: tracing is off whatever else is set" },
];

type Env = Readonly<Record<string, string | undefined>>;

const samplers: Record<string, (share: number) => TraceSampler> = {
  always_on: () => ({ share: 1, followsCaller: false }),
  always_off: () => ({ share: 0, followsCaller: false }),
  traceidratio: (share) => ({ share, followsCaller: false }),
  parentbased_always_on: () => ({ share: 1, followsCaller: true }),
  parentbased_always_off: () => ({ share: 0, followsCaller: true }),
  parentbased_traceidratio: (share) => ({ share, followsCaller: true }),
};

/** No settings: tracing is off. Of variables that would not be used nothing is said. */
export function readTracingSettings(env: Env): { settings?: TracingSettings; mistakes: string[] } {
  const value = (name: string): string | undefined => env[name]?.trim() || undefined;
  const exporter = value("OTEL_TRACES_EXPORTER");
  const root = value("OTEL_EXPORTER_OTLP_ENDPOINT");
  const whole = value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  if (value("OTEL_SDK_DISABLED")?.toLowerCase() === "true" || exporter === "none") return { mistakes: [] };
  if (exporter === undefined && root === undefined && whole === undefined) return { mistakes: [] };
  const mistakes: string[] = [];
  const wrong = (name: string, expected: string): void => void mistakes.push(`${name}: expected ${expected}`);
  /** The variable for spans alone wins over the one for everything. */
  const own = (name: string): { name: string; text: string | undefined } => {
    const forTraces = `OTEL_EXPORTER_OTLP_TRACES_${name}`;
    return value(forTraces) === undefined
      ? { name: `OTEL_EXPORTER_OTLP_${name}`, text: value(`OTEL_EXPORTER_OTLP_${name}`) }
      : { name: forTraces, text: value(forTraces) };
  };
  if (exporter !== undefined && exporter !== "otlp") wrong("OTEL_TRACES_EXPORTER", `otlp or none, got ${JSON.stringify(exporter)}`);
  const protocol = own("PROTOCOL");
  if (protocol.text !== undefined && protocol.text !== "http/protobuf")
    wrong(protocol.name, `http/protobuf, the only one that is spoken, got ${JSON.stringify(protocol.text)}`);
  const from = whole === undefined ? "OTEL_EXPORTER_OTLP_ENDPOINT" : "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
  const endpoint = whole ?? `${(root ?? "http://localhost:4318").replace(/\/$/, "")}/v1/traces`;
  if (!isPlainUrl(endpoint)) wrong(from, "http://host:port or https://host:port, without user and password, got something else");
  const headers = own("HEADERS");
  const timeout = own("TIMEOUT");
  const timeoutMs = timeout.text === undefined ? 10_000 : Number(timeout.text);
  if (!(Number.isInteger(timeoutMs) && timeoutMs >= 1 && timeoutMs <= 600_000))
    wrong(timeout.name, `whole milliseconds from 1 to 600000, got ${JSON.stringify(timeout.text)}`);
  const compression = own("COMPRESSION");
  if (!["none", "gzip", undefined].includes(compression.text))
    wrong(compression.name, `none or gzip, got ${JSON.stringify(compression.text)}`);
  const settings: TracingSettings = {
    endpoint,
    headers: pairsIn(headers.text, () => wrong(headers.name, "name=value pairs separated by commas, got something else")),
    timeoutMs,
    sampler: samplerIn(value, wrong),
    resource: pairsIn(value("OTEL_RESOURCE_ATTRIBUTES"), () =>
      wrong("OTEL_RESOURCE_ATTRIBUTES", "name=value pairs separated by commas, got something else"),
    ),
  };
  const serviceName = value("OTEL_SERVICE_NAME") ?? settings.resource["service.name"];
  if (serviceName !== undefined) settings.serviceName = serviceName;
  return mistakes.length > 0 ? { mistakes } : { settings, mistakes };
}

function samplerIn(value: (name: string) => string | undefined, wrong: (name: string, expected: string) => void): TraceSampler {
  const name = value("OTEL_TRACES_SAMPLER") ?? "parentbased_always_on";
  const argument = value("OTEL_TRACES_SAMPLER_ARG");
  const share = argument === undefined || !name.endsWith("traceidratio") ? 1 : Number(argument);
  if (!(share >= 0 && share <= 1)) wrong("OTEL_TRACES_SAMPLER_ARG", `a share from 0 to 1, got ${JSON.stringify(argument)}`);
  const make = Object.hasOwn(samplers, name) ? samplers[name] : undefined;
  if (make === undefined) wrong("OTEL_TRACES_SAMPLER", `one of ${Object.keys(samplers).join(", ")}, got ${JSON.stringify(name)}`);
  return make?.(share) ?? { share: 1, followsCaller: true };
}

function isPlainUrl(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.username === "" && url.password === "";
}

/** Values are percent-encoded, as in baggage. */
function pairsIn(text: string | undefined, wrong: () => void): Record<string, string> {
  const found: Record<string, string> = {};
  for (const part of (text ?? "").split(",").map((piece) => piece.trim())) {
    if (part === "") continue;
    const at = part.indexOf("=");
    try {
      if (at < 1) throw new URIError();
      found[part.slice(0, at).trim()] = decodeURIComponent(part.slice(at + 1).trim());
    } catch {
      wrong();
      return {};
    }
  }
  return found;
}
