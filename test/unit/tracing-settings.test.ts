import assert from "node:assert/strict";
import { test } from "node:test";
import { readTracingSettings, tracingVariables } from "@switchyard/protocol";
import { type ConfigError, readConfig } from "../../coordinator/src/config.ts";
import { readConfig as readWorkerConfig } from "../../worker/src/config.ts";

const url = "http://127.0.0.1:4318";

test("tracing is off unless an endpoint or the exporter is named, and can be turned off", () => {
  const off = [
    {},
    { OTEL_TRACES_SAMPLER: "nonsense" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_SDK_DISABLED: "true" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_TRACES_EXPORTER: "none", OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" },
  ];
  for (const env of off) assert.deepEqual(readTracingSettings(env), { mistakes: [] }, JSON.stringify(env));
  assert.equal(readTracingSettings({ OTEL_TRACES_EXPORTER: "otlp" }).settings?.endpoint, "http://localhost:4318/v1/traces");
});

test("the variables for traces alone win, and all are understood", () => {
  const { settings, mistakes } = readTracingSettings({
    OTEL_EXPORTER_OTLP_ENDPOINT: `${url}/`,
    OTEL_EXPORTER_OTLP_HEADERS: "a=1,b=two%20words",
    OTEL_EXPORTER_OTLP_TIMEOUT: "5000",
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "250",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "0.25",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=test",
    OTEL_SERVICE_NAME: "north",
  });
  assert.deepEqual(mistakes, []);
  assert.deepEqual(settings, {
    endpoint: `${url}/v1/traces`,
    headers: { a: "1", b: "two words" },
    timeoutMs: 250,
    sampler: { share: 0.25, followsCaller: true },
    resource: { "deployment.environment": "test" },
    serviceName: "north",
  });
  const own = readTracingSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://there.test/in" });
  assert.equal(own.settings?.endpoint, "https://there.test/in");
});

test("every mistake is told with its variable, and no secret with it", () => {
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://user:hidden@there.test",
    OTEL_TRACES_EXPORTER: "jaeger",
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
    OTEL_EXPORTER_OTLP_HEADERS: "hidden",
    OTEL_EXPORTER_OTLP_TIMEOUT: "soon",
    OTEL_EXPORTER_OTLP_COMPRESSION: "zip",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: "2",
    OTEL_RESOURCE_ATTRIBUTES: "nothing",
  };
  const { mistakes, settings } = readTracingSettings(env);
  assert.equal(settings, undefined);
  const named = mistakes.map((mistake) => mistake.slice(0, mistake.indexOf(":"))).sort();
  assert.deepEqual(
    named,
    Object.keys(env)
      .filter((name) => name !== "OTEL_TRACES_SAMPLER")
      .sort(),
  );
  assert.doesNotMatch(mistakes.join("\n"), /hidden/);
  assert.match(
    readTracingSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_TRACES_SAMPLER: "some" }).mistakes[0]!,
    /^OTEL_TRACES_SAMPLER: expected one of/,
  );
  const known = new Set(tracingVariables.map(({ name }) => name));
  for (const name of Object.keys(env)) assert.ok(known.has(name), `${name} is not described`);
});

test("coordinator and worker tell them with all other mistakes, before anything starts", () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc", SWITCHYARD_LOG_LEVEL: "loud" };
  assert.throws(
    () => readConfig({ argv: [], env }),
    (error: ConfigError) =>
      error.mistakes.length === 2 &&
      /SWITCHYARD_LOG_LEVEL: expected one of debug, info, warn, error, got "loud"/.test(error.message) &&
      /OTEL_EXPORTER_OTLP_PROTOCOL: expected http\/protobuf/.test(error.message),
  );
  const ofWorker = (): unknown => readWorkerConfig({ argv: [], env: { ...env, SWITCHYARD_REDIS_URL: "redis://127.0.0.1" } });
  assert.throws(
    ofWorker,
    /SWITCHYARD_LOG_LEVEL \(--log-level\): expected one of debug, info, warn, error[\s\S]*OTEL_EXPORTER_OTLP_PROTOCOL: expected/,
  );
});
