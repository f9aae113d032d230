import assert from "node:assert/strict";
import { test } from "node:test";
import { checkToolServers } from "../../coordinator/src/adapters/tool-server-settings.ts";
import { originOf } from "../../coordinator/src/application/tool-policy.ts";

const check = (mcpServers: unknown, env: Record<string, string> = {}) =>
  checkToolServers({ mcpServers }, { env, folder: "/etc/switchyard" });

test("a file that other hosts have is taken as it is, and keys that mean nothing here only warn", () => {
  const { mistakes, servers, warnings } = check({
    files: { command: "npx", args: ["-y", "server-filesystem", "/data"], env: { LOG: "1" }, alwaysAllow: ["read_file"] },
    remote: { type: "streamable-http", url: "https://tools.example.org/mcp", headers: { Authorization: "Bearer abc" } },
  });
  assert.deepEqual(mistakes, []);
  assert.deepEqual(warnings, ["mcpServers.files.alwaysAllow: means nothing here"]);
  const [files, remote] = servers;
  assert.deepEqual(files?.place, {
    kind: "stdio",
    command: "npx",
    args: ["-y", "server-filesystem", "/data"],
    env: { LOG: "1" },
    cwd: "/etc/switchyard",
    written: { command: "npx", args: ["-y", "server-filesystem", "/data"] },
  });
  assert.deepEqual(remote?.place, {
    kind: "http",
    url: "https://tools.example.org/mcp",
    headers: { Authorization: "Bearer abc" },
    allowPrivate: [],
  });
  assert.equal(files?.trust, "none", "a server is not trusted unless somebody says so");
  assert.equal(files?.elicitation, "off");
  assert.deepEqual(files?.expose, [], "nothing is offered on unless somebody says so");
});

test("keys of our own are read", () => {
  const { mistakes, servers } = check({
    log: {
      command: "dbhub",
      cwd: "dbhub",
      trust: true,
      allowTools: ["log_result"],
      denyTools: ["execute_*"],
      timeoutMs: 1_000,
      maxTotalMs: 5_000,
      maxConcurrency: 2,
      maxMessageBytes: 65_536,
      protocolEra: "modern",
      required: true,
      restart: false,
      expose: true,
      disabled: true,
      roots: [{ uri: "file:///data", name: "data" }],
      elicitation: "decline",
    },
    near: { url: "http://127.0.0.1:9000/sse", type: "sse", allowPrivate: ["127.0.0.1", "10.0.0.0/8"] },
  });
  assert.deepEqual(mistakes, []);
  const [log, near] = servers;
  assert.deepEqual(
    { ...log, place: undefined },
    {
      name: "log",
      place: undefined,
      era: "modern",
      disabled: true,
      trust: "full",
      allowTools: ["log_result"],
      denyTools: ["execute_*"],
      timeoutMs: 1_000,
      maxTotalMs: 5_000,
      maxConcurrency: 2,
      maxMessageBytes: 65_536,
      required: true,
      restart: false,
      expose: ["*"],
      roots: [{ uri: "file:///data", name: "data" }],
      elicitation: "decline",
    },
  );
  assert.equal(log?.place.kind === "stdio" && log.place.cwd, "/etc/switchyard/dbhub");
  assert.deepEqual(near?.place.kind === "sse" && near.place.allowPrivate, ["127.0.0.1", "10.0.0.0/8"]);
});

test("variables stand for secrets, and one that is not set is a mistake", () => {
  const mcpServers = {
    a: { command: `\${RUNNER}`, args: ["--dsn", `\${DSN:-sqlite:///srv/x}`], env: { TOKEN: `\${env:TOKEN}` } },
    b: { url: `https://\${HOST}/mcp`, headers: { Authorization: `Bearer \${ABSENT}` } },
  };
  const { mistakes, servers } = check(mcpServers, { RUNNER: "node", TOKEN: "s3cret", HOST: "tools.example.org" });
  assert.deepEqual(mistakes, [`mcpServers.b.headers.Authorization: expected the variable ABSENT to be set, for \${ABSENT}`]);
  assert.deepEqual(servers, [], "one mistake, and nothing is used");
  const right = check({ a: mcpServers.a }, { RUNNER: "node", TOKEN: "s3cret" });
  const place = right.servers[0]?.place;
  assert.deepEqual(place?.kind === "stdio" && [place.command, place.args, place.env], [
    "node",
    ["--dsn", "sqlite:///srv/x"],
    { TOKEN: "s3cret" },
  ]);
});

test("all mistakes are told at once, each with its place, and none with a secret", () => {
  const { mistakes } = check({
    "no spaces": { command: "a" },
    neither: { timeoutMs: 5 },
    both: { command: "a", url: "https://example.org/" },
    kind: { command: "a", type: "http" },
    mixed: { url: "https://example.org/", args: ["x"] },
    scheme: { url: "ftp://user:s3cret@example.org/" },
    Twice: { command: "a" },
    twice: { command: "b" },
    limits: { command: "a", timeoutMs: 10, maxTotalMs: 5 },
  });
  const shapes = check({
    shape: { command: 7, env: { TOKEN: 12 }, headers: { X: ["s3cret"] }, maxConcurrency: 0, allowPrivate: ["10.0.0.0/99"] },
  });
  assert.deepEqual(mistakes, ["mcpServers.scheme.url: expected an address that begins with http:// or https://, got other text"]);
  assert.deepEqual(shapes.mistakes, [
    "mcpServers.shape.command: expected text, got 7",
    "mcpServers.shape.env.TOKEN: expected text, got something else",
    "mcpServers.shape.headers.X: expected text, got something else",
    "mcpServers.shape.maxConcurrency: expected a number of at least 1, got 0",
    'mcpServers.shape.allowPrivate[0]: expected an address, or a range such as 10.0.0.0/8, got "10.0.0.0/99"',
  ]);
});

test("what variables stand for is in no mistake, wherever they stand", () => {
  const written = `--token=\${TOKEN}`;
  const entries = {
    a: { command: { run: written }, args: written, cwd: [written], roots: [{ uri: `\${TOKEN}` }, written] },
    b: [{ env: { TOKEN: "s3cret" } }],
  };
  const { mistakes } = check(entries, { TOKEN: "s3cret" });
  assert.deepEqual(mistakes, [
    "mcpServers.a.command: expected text, got a mapping",
    `mcpServers.a.args: expected a list, got "--token=\${TOKEN}"`,
    "mcpServers.a.cwd: expected text, got a list",
    `mcpServers.a.roots[0].uri: expected an address that begins with file://, got "\${TOKEN}"`,
    `mcpServers.a.roots[1]: expected a mapping, got "--token=\${TOKEN}"`,
    "mcpServers.b: expected a mapping, got a list",
  ]);
});

test("what is right alone and wrong together is refused", () => {
  const { mistakes } = check({
    "no spaces": { command: "a" },
    neither: { timeoutMs: 5 },
    both: { command: "a", url: "https://example.org/" },
    kind: { command: "a", type: "http" },
    mixed: { url: "https://example.org/", args: ["x"] },
    Twice: { command: "a" },
    twice: { command: "b" },
    limits: { command: "a", timeoutMs: 10, maxTotalMs: 5 },
    lines: { url: "https://example.org/", headers: { "X-Key": "a\nb", "bad name": "x" } },
  });
  assert.deepEqual(mistakes, [
    "mcpServers.no spaces: expected a name of 1 to 64 letters, digits, dots, hyphens and underscores",
    "mcpServers.neither: expected either command or url, got neither",
    "mcpServers.both: expected either command or url, got both",
    'mcpServers.kind.type: expected stdio beside command, got "http"',
    "mcpServers.mixed.args: expected only beside command",
    "mcpServers.twice: expected a name that differs from Twice by more than its case",
    "mcpServers.limits.timeoutMs: expected at most maxTotalMs (5), got 10",
    "mcpServers.lines.headers.X-Key: expected a value without control characters",
    'mcpServers.lines.headers: expected names of HTTP headers, got "bad name"',
  ]);
});

test("a document that is none of this is refused by its place", () => {
  for (const [document, mistake] of [
    [[], "the document: expected a mapping, got []"],
    [{}, "mcpServers: expected a mapping, got nothing"],
    [{ mcpServers: { a: "node" } }, 'mcpServers.a: expected a mapping, got "node"'],
  ] as const) {
    assert.deepEqual(checkToolServers(document, { env: {}, folder: "/" }).mistakes, [mistake]);
  }
});

test("where a program comes from is the same for coordinators whose files and variables differ", () => {
  const mcpServers = { s: { command: `\${HOME}/x`, args: [`--key=\${KEY}`], cwd: "db" } };
  const origins = [
    { folder: "/etc/one", env: { HOME: "/a", KEY: "1" } },
    { folder: "/etc/two", env: { HOME: "/b", KEY: "2" } },
  ].map((at) => originOf(checkToolServers({ mcpServers }, at).servers[0]!));
  assert.equal(origins[0], origins[1]);
  const other = checkToolServers({ mcpServers: { s: { ...mcpServers.s, cwd: "other" } } }, { folder: "/", env: { HOME: "/", KEY: "1" } });
  assert.notEqual(originOf(other.servers[0]!), origins[0]);
});
