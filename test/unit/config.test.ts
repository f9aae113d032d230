import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import {
  blobSettings,
  type Config,
  ConfigError,
  coordinatorMetrics,
  flagOf,
  readConfig,
  type SettingName,
  settingNames,
} from "../../coordinator/src/config.ts";
import { childEnv } from "../../coordinator/src/embedded/child-env.ts";

const folder = path.resolve("some-folder");
const read = (argv: string[], env: Record<string, string> = {}): Config => readConfig({ argv, env, folder });

function mistakesOf(argv: string[], env: Record<string, string> = {}): readonly string[] {
  try {
    read(argv, env);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.mistakes;
  }
  return [];
}

test("without flags and variables everything has the documented default", () => {
  const config = read([]);
  assert.deepEqual(config.http, { host: "127.0.0.1", port: 8000 });
  assert.deepEqual(config.grpc, { host: "127.0.0.1", port: 8001 });
  assert.deepEqual(config.metrics, { host: "127.0.0.1", port: 8002 });
  assert.equal(config.redisUrl, undefined);
  assert.equal(config.models, path.join(folder, "models"));
  assert.equal(config.data, path.join(folder, ".switchyard"));
  assert.equal(config.workers, 1);
  assert.equal(config.maxBodyBytes, 64 * 2 ** 20);
  assert.equal(config.maxJsonBytes, 64 * 2 ** 20, "JSON has no limit of its own unless one is set");
  assert.equal(config.resultTtlMs, 3_600_000);
  assert.deepEqual(config.corsOrigins, []);
});

test("a flag wins over its variable, and an empty variable is no value", () => {
  const env = { SWITCHYARD_WORKERS: "5", SWITCHYARD_MODELS: "" };
  assert.equal(read([], env).workers, 5);
  assert.equal(read(["--workers", "2"], env).workers, 2);
  assert.equal(read(["--workers=3"], env).workers, 3);
  assert.equal(read([], env).models, path.join(folder, "models"));
});

test("there is one coordinator unless more are asked for, whose metrics lie behind the workers'", () => {
  const portsOf = (argv: string[]): number[] => coordinatorMetrics(read(argv)).map(({ port }) => port);
  assert.deepEqual(portsOf([]), [8002]);
  assert.deepEqual(portsOf(["--coordinators", "3", "--workers", "2"]), [8002, 8005, 8006]);
  assert.deepEqual(portsOf(["--coordinators", "2", "--metrics", "127.0.0.1:0"]), [0, 0]);
  for (const wrong of ["0", "-1", "1.5", "many", "65"])
    assert.match(mistakesOf([`--coordinators=${wrong}`]).join(), /^--coordinators: expected a whole number from 1 to 64, got/, wrong);
});

test("gRPC can be switched off, and nothing else can", () => {
  assert.equal(read(["--grpc", "off"]).grpc, undefined);
  assert.equal(read([], { SWITCHYARD_GRPC: "off" }).grpc, undefined);
  assert.deepEqual(mistakesOf(["--grpc", "off", "--http", "127.0.0.1:8001"]), []);
  assert.match(mistakesOf(["--http", "off"]).join(), /--http: expected host:port/);
  assert.match(mistakesOf(["--grpc", "none"]).join(), /--grpc: expected host:port, .* or off, got "none"/);
  assert.match(mistakesOf(["--grpc", "0.0.0.0:8001"]).join(), /--grpc: expected a loopback address/);
  assert.match(mistakesOf(["--grpc", "127.0.0.1:8000"]).join(), /--grpc: expected an address of its own|which --grpc has/);
});

test("sizes and times are read in the forms that people write", () => {
  for (const text of ["67108864", "64MiB", "65536 KiB"]) assert.equal(read(["--max-body", text]).maxBodyBytes, 67_108_864, text);
  for (const text of ["3600", "1h", "60m", "3600000ms"]) assert.equal(read(["--result-ttl", text]).resultTtlMs, 3_600_000, text);
  assert.deepEqual(read(["--http", "[::1]:9000"]).http, { host: "::1", port: 9000 });
  assert.deepEqual(read(["--cors-origins", "https://a.example, http://b.example:81"]).corsOrigins, [
    "https://a.example",
    "http://b.example:81",
  ]);
});

test("all mistakes are told at once, each with its name, what was expected and what came", () => {
  const env = { SWITCHYARD_HTTP: "nowhere", SWITCHYARD_MAX_BODY: "-1", SWITCHYARD_RESULT_TTL: "0", SWITCHYARD_METRICS: "127.0.0.1:70000" };
  const mistakes = mistakesOf(["--workers", "1e3", "--colour", "--data"], env);
  assert.equal(mistakes.length, 7);
  for (const [name, got] of [...Object.entries(env), ["--workers", "1e3"]]) {
    const line = mistakes.find((mistake) => mistake.startsWith(`${name}: expected `));
    assert.ok(line?.endsWith(`got ${JSON.stringify(got)}`), `${name}: ${line}`);
  }
  assert.match(mistakes.join("\n"), /^--colour: no such flag/m);
  assert.match(mistakes.join("\n"), /^--data: a value is expected/m);
});

test("a password in a wrong Redis address is not repeated", () => {
  const mistakes = mistakesOf([], { SWITCHYARD_REDIS_URL: "http://user:hunter2@store" });
  assert.equal(mistakes.length, 1);
  assert.doesNotMatch(mistakes.join(), /hunter2/);
});

test("listening beyond loopback without API keys is refused", () => {
  for (const address of ["0.0.0.0:8000", "[::]:8000", "10.0.0.1:8000", "127.0.0.1.example.org:8000"]) {
    assert.match(mistakesOf(["--http", address]).join(), /^--http: expected a loopback address/, address);
  }
});

test("with a file of API keys every address may be listened on", () => {
  const config = read(["--api-keys", "keys.yaml", "--http", "0.0.0.0:8000"]);
  assert.equal(config.apiKeys, path.join(folder, "keys.yaml"));
  assert.deepEqual(config.http, { host: "0.0.0.0", port: 8000 });
});

test("what is wrong with the key file is told together with all other mistakes", () => {
  const asked: string[] = [];
  const source = {
    argv: ["--workers", "many"],
    env: { SWITCHYARD_API_KEYS: "keys.yaml" },
    folder,
    keyFileMistakes: (file: string) => {
      asked.push(file);
      return ["entry 1: weight", "entry 2: id"];
    },
  };
  assert.throws(
    () => readConfig(source),
    (error: ConfigError) => {
      assert.deepEqual(
        error.mistakes.map((line) => line.split(": expected")[0]),
        ["--workers", "SWITCHYARD_API_KEYS: entry 1: weight", "SWITCHYARD_API_KEYS: entry 2: id"],
      );
      return true;
    },
  );
  assert.deepEqual(asked, [path.join(folder, "keys.yaml")]);
});

test("what is wrong with the file of MCP servers is told with it, and where it lies is resolved", () => {
  const toolServerMistakes = (file: string, env: Readonly<Record<string, string | undefined>>) => [`${file} with ${env.TOKEN}`];
  const source = { argv: ["--mcp-servers", "servers.json"], env: { TOKEN: "t" }, folder };
  assert.throws(
    () => readConfig({ ...source, toolServerMistakes }),
    (error: ConfigError) => {
      assert.deepEqual(error.mistakes, [`--mcp-servers: ${path.join(folder, "servers.json")} with t`]);
      return true;
    },
  );
  assert.equal(readConfig(source).mcpServers, path.join(folder, "servers.json"));
});

test("two doors cannot share an address", () => {
  assert.match(mistakesOf(["--metrics", "127.0.0.1:8000"]).join(), /^--metrics: expected an address of its own.*HTTP/);
});

test("inputs are files where Redis is on this machine, unless one is told otherwise", () => {
  assert.deepEqual(
    [[], ["--input-files", "yes"], ["--input-files", "no"]].map((argv) => read(argv).inputFiles),
    ["auto", "yes", "no"],
  );
  assert.throws(() => read(["--input-files", "maybe"]), /--input-files: expected auto, yes or no, got "maybe"/);
});

test("large values lie in a folder or in a bucket, whose server, region and style are told beside it", () => {
  assert.deepEqual(read([]).blobs, { folder: path.join(folder, ".switchyard/blobs") });
  assert.deepEqual(read(["--blobs", "elsewhere"]).blobs, { folder: path.join(folder, "elsewhere") });
  assert.deepEqual(read(["--blobs", "s3://values"]).blobs, { bucket: "values", prefix: "", pathStyle: false });
  const own = ["--blobs", "s3://values/some/where/", "--s3-endpoint", "http://10.0.0.7:9000"];
  const place = { bucket: "values", prefix: "some/where", endpoint: "http://10.0.0.7:9000", region: "us-east-1", pathStyle: true };
  assert.deepEqual(read(own).blobs, place);
  assert.deepEqual(read([...own, "--s3-region", "local", "--s3-path-style", "no"]).blobs, { ...place, region: "local", pathStyle: false });
});

test("what `up` tells its processes of large values is what it was told", () => {
  for (const argv of [
    [],
    ["--blobs", "s3://values"],
    ["--blobs", "s3://values/a/b", "--s3-endpoint", "https://store.example", "--s3-path-style", "no"],
  ]) {
    const { blobs } = read(argv);
    const told = Object.entries(blobSettings(blobs)).filter((setting): setting is [string, string] => setting[1] !== undefined);
    assert.deepEqual(read([], Object.fromEntries(told)).blobs, blobs);
  }
});

test("each setting that `up` is told is told its processes", () => {
  /** None is the default, and each as it is told again. */
  const given: Record<SettingName, string> = {
    ...{ HTTP: "127.0.0.1:9000", GRPC: "127.0.0.1:9001", METRICS: "127.0.0.1:9002" },
    ...{ REDIS_URL: "rediss://store:7000", REDIS_CA: "/tls/ca.pem", REDIS_CERT: "/tls/cert.pem", REDIS_KEY: "/tls/key.pem" },
    ...{
      MODELS: "/other/models",
      DATA: "/other/data",
      CACHE: "/other/cache",
      API_KEYS: "/other/keys.yaml",
      MCP_SERVERS: "/other/mcp.json",
    },
    ...{ BLOBS: "s3://values/some", S3_ENDPOINT: "http://10.0.0.7:9000", S3_REGION: "local", S3_PATH_STYLE: "no", INPUT_FILES: "no" },
    ...{ COORDINATORS: "2", WORKERS: "3", BIND_CORES: "no", EXPECTED_HOSTS: "4" },
    ...{ MAX_BODY: "33554432", MAX_JSON: "1048576", MAX_MODEL: "16777216", MAX_QUEUE_JOBS: "1000", MAX_QUEUE_BYTES: "2000" },
    ...{ RESULT_TTL: "7200000ms", MCP_MODEL_TOOLS: "7", CORS_ORIGINS: "https://a.example", LOG_LEVEL: "debug" },
  };
  const notTold: SettingName[] = [
    "BIND_CORES", // it is `up` that binds them
    "EXPECTED_HOSTS", // of a coordinator under `up`: its workers
  ];
  assert.deepEqual(Object.keys(given).sort(), [...settingNames].sort());
  const { REDIS_CA, REDIS_CERT, REDIS_KEY, ...others } = given;
  const config = read(Object.entries(others).map(([name, value]) => `${flagOf(name)}=${value}`));
  // which would have to be there to be read
  const whole = { ...config, redisFiles: { REDIS_CA, REDIS_CERT, REDIS_KEY } };
  const env = childEnv(whole, { redisUrl: given.REDIS_URL, env: {} });
  const told = Object.fromEntries(settingNames.map((name) => [name, env[`SWITCHYARD_${name}`]]));
  assert.deepEqual(told, { ...given, ...Object.fromEntries(notTold.map((name) => [name, undefined])) });
});

test("a bucket that cannot be meant is refused with all other mistakes, and no secret in it is repeated", () => {
  for (const text of ["s3://", "s3://Values", "s3:/values", "s3://values/a//b", "s3://values/../b", "s3://values?x=y", "S3://values"]) {
    assert.match(mistakesOf(["--blobs", text]).join(), /--blobs: expected a path, or s3:\/\/bucket/, text);
  }
  const many = mistakesOf([
    "--blobs",
    "s3://key:hunter2@values",
    "--s3-endpoint",
    "http://key:hunter2@store:9000",
    "--s3-region",
    "a b",
    "--s3-path-style",
    "maybe",
  ]);
  assert.deepEqual(
    many.map((mistake) => mistake.split(":", 1)[0]),
    ["--blobs", "--s3-endpoint", "--s3-region", "--s3-path-style"],
  );
  assert.doesNotMatch(many.join(), /hunter2/);
  for (const text of ["store:9000", "ftp://store", "http://store/path", "http://store?x"]) {
    assert.match(mistakesOf(["--blobs", "s3://values", "--s3-endpoint", text]).join(), /--s3-endpoint: expected http:\/\/host:port/, text);
  }
  assert.match(mistakesOf(["--s3-region", "eu-central-1"]).join(), /--s3-region: expected only with SWITCHYARD_BLOBS as s3:\/\/bucket/);
});
