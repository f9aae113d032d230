/**
 * Foreign servers behind a cluster, called through /v1/mcp as a script would: the official filesystem, memory and everything servers, and a database
 * server on SQLite and on PostgreSQL, whose tool is called once for the result of each job.
 */

import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { ToolCallView, ToolServerView } from "@switchyard/protocol";
import { Switchyard } from "switchyard";
import { startCluster } from "../../support/cluster.ts";
import { findPostgres, startPostgres } from "../../support/postgres.ts";
import { until } from "../../support/until.ts";
import { type Outcome, Tally } from "./outcome.ts";
import type { Peers } from "./peers.ts";

const jobCount = 24;
/** What ends a database that pastes text into its statements. */
const hostile = `Robert'); DROP TABLE results;--`;
const table = "CREATE TABLE results (job TEXT PRIMARY KEY, output TEXT NOT NULL)";

/** One database behind the database server. */
interface Database {
  kind: "SQLite" | "PostgreSQL";
  dsn: string;
  /** Of the two values. */
  placeholders: string;
  /** A row a line, values parted by `|`. */
  rows(sql: string): Promise<string[]>;
}

export async function upstreamServers(peers: Peers): Promise<Outcome[]> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-upstreams-"));
  try {
    const outcomes = [await officialServers(peers, folder)];
    outcomes.push(await databaseServer(peers, folder, sqliteIn(folder)));
    outcomes.push(await onPostgres(peers, folder));
    return outcomes;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function onPostgres(peers: Peers, folder: string): Promise<Outcome> {
  const programs = await findPostgres();
  if ("missing" in programs) {
    const tally = new Tally("upstreams", "a database server on PostgreSQL");
    tally.skip(programs.missing);
    return tally.outcome;
  }
  await using postgres = await startPostgres(programs);
  await postgres.sql(table);
  const rows = async (sql: string): Promise<string[]> => (await postgres.sql(sql)).split("\n").filter((line) => line !== "");
  return await databaseServer(peers, folder, { kind: "PostgreSQL", dsn: postgres.url, placeholders: "$1, $2", rows });
}

function sqliteIn(folder: string): Database {
  const file = path.join(folder, "results.db");
  const open = (): DatabaseSync => new DatabaseSync(file);
  const made = open();
  made.exec(table);
  made.close();
  return {
    kind: "SQLite",
    dsn: `sqlite://${file}`,
    placeholders: "?, ?",
    async rows(sql) {
      const database = open();
      try {
        return database
          .prepare(sql)
          .all()
          .map((row) => Object.values(row).join("|"));
      } finally {
        database.close();
      }
    },
  };
}

/** A cluster with these servers behind it, once each of them has answered. */
async function withServers(
  folder: string,
  mcpServers: Record<string, object>,
  use: (cluster: { url: string; call: Call }) => Promise<void>,
): Promise<void> {
  const file = path.join(await mkdtemp(path.join(folder, "servers-")), "mcp.json");
  await writeFile(file, JSON.stringify({ mcpServers }));
  await using cluster = await startCluster({ env: { SWITCHYARD_MCP_SERVERS: file } });
  const { url } = cluster;
  const look = async (): Promise<boolean> => {
    const { items } = (await (await fetch(`${url}/v1/mcp/servers`)).json()) as { items: ToolServerView[] };
    return items.length === Object.keys(mcpServers).length && items.every(({ state }) => state === "ready");
  };
  const shown = { text: "" };
  const show = (): string => shown.text;
  await until("all servers to be ready", look, { withinMs: 60_000, everyMs: 200, show }).catch(async (error: Error) => {
    throw new Error(`${error.message}: ${await (await fetch(`${url}/v1/mcp/servers`)).text()}`);
  });
  await use({ url, call: (server, tool, args) => callTool(url, server, tool, args) });
}

type Call = (server: string, tool: string, args: object) => Promise<ToolCallView>;

async function callTool(url: string, server: string, tool: string, args: object): Promise<ToolCallView> {
  const answer = await fetch(`${url}/v1/mcp/servers/${server}/tools/${tool}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ arguments: args }),
  });
  const body = await answer.text();
  if (!answer.ok) throw new Error(`status ${answer.status}: ${body.slice(0, 400)}`);
  return JSON.parse(body) as ToolCallView;
}

const textOf = ({ content }: ToolCallView): string => content.map(({ text }) => String(text ?? "")).join("\n");

async function officialServers(peers: Peers, folder: string): Promise<Outcome> {
  const tally = new Tally("upstreams", "the official filesystem, memory and everything servers");
  const shared = path.join(folder, "shared");
  await mkdir(shared);
  const official = (name: string): string => peers.file(`@modelcontextprotocol/server-${name}/dist/index.js`);
  const node = process.execPath;
  const servers = {
    files: { command: node, args: [official("filesystem"), shared], trust: true },
    memory: { command: node, args: [official("memory")], env: { MEMORY_FILE_PATH: path.join(folder, "memory.jsonl") }, trust: true },
    everything: { command: node, args: [official("everything"), "stdio"], trust: true },
  };
  await withServers(folder, servers, async ({ url, call }) => {
    await tally.check("each lists its tools", async () => {
      for (const name of Object.keys(servers)) {
        const { tool_list } = (await (await fetch(`${url}/v1/mcp/servers/${name}`)).json()) as { tool_list: { name: string }[] };
        assert.ok(tool_list.length > 3, `${name} has ${tool_list.length} tools`);
      }
    });
    await tally.check("a file is written and read", async () => {
      const file = path.join(shared, "result.txt");
      assert.equal((await call("files", "write_file", { path: file, content: hostile })).is_error, false);
      assert.equal(await readFile(file, "utf8"), hostile);
      assert.match(textOf(await call("files", "read_text_file", { path: file })), /DROP TABLE/);
    });
    await tally.check("a file outside the folder is an error of the tool", async () => {
      assert.equal((await call("files", "read_text_file", { path: process.execPath })).is_error, true);
    });
    await tally.check("what was remembered is found", async () => {
      const entities = [{ name: "digits", entityType: "model", observations: ["recognises handwritten digits"] }];
      assert.equal((await call("memory", "create_entities", { entities })).is_error, false);
      assert.match(textOf(await call("memory", "search_nodes", { query: "handwritten" })), /digits/);
    });
    await tally.check("a sum, an echo and an operation with progress", async () => {
      assert.match(textOf(await call("everything", "get-sum", { a: 2, b: 40 })), /42/);
      assert.match(textOf(await call("everything", "echo", { message: hostile })), /DROP TABLE/);
      assert.equal((await call("everything", "trigger-long-running-operation", { duration: 1, steps: 4 })).is_error, false);
    });
    await tally.check("structured content comes as it was declared", async () => {
      const { structured_content } = await call("everything", "get-structured-content", { location: "Chicago" });
      assert.equal(typeof (structured_content as { temperature?: unknown }).temperature, "number");
    });
    await tally.check("arguments that do not fit the tool's schema are refused before it is called", async () => {
      await assert.rejects(call("everything", "get-sum", { a: "two", b: 40 }), /status 400/);
    });
  });
  return tally.outcome;
}

async function databaseServer(peers: Peers, folder: string, database: Database): Promise<Outcome> {
  const tally = new Tally("upstreams", `a database server on ${database.kind}`);
  const config = path.join(await mkdtemp(path.join(folder, "dbhub-")), "dbhub.toml");
  await writeFile(config, databaseConfig(database));
  const program = peers.file("@bytebase/dbhub/dist/index.js");
  const servers = { db: { command: process.execPath, args: [program, "--transport", "stdio", "--config", config], trust: true } };
  await withServers(folder, servers, async ({ url, call }) => {
    const log = (job: string, output: string): Promise<ToolCallView> => call("db", "log_result", { job, output });
    await tally.check(`the results of ${jobCount} jobs make ${jobCount} rows`, async () => {
      const client = new Switchyard({ url });
      const image = { datatype: "FP32", shape: [1, 64], data: Array.from({ length: 64 }, (_, index) => index % 16) } as const;
      const jobs = await Promise.all(Array.from({ length: jobCount }, () => client.submit("digits", { image })));
      for (const job of jobs) {
        const { outputs } = await job.result();
        const label = String(outputs.label!.data[0]);
        const { is_error } = await log(job.id, label);
        assert.equal(is_error, false);
      }
      assert.deepEqual((await database.rows("SELECT job FROM results ORDER BY job")).sort(), jobs.map(({ id }) => id).sort());
    });
    await tally.check("text that would end a careless database is stored as text", async () => {
      assert.equal((await log("hostile", hostile)).is_error, false);
      assert.deepEqual(await database.rows("SELECT output FROM results WHERE job = 'hostile'"), [hostile]);
      assert.deepEqual(await database.rows("SELECT count(*) FROM results"), [String(jobCount + 1)]);
    });
    await tally.check("a tool that only reads does not delete", async () => {
      const answer = await call("db", "execute_sql", { sql: "DELETE FROM results" });
      assert.equal(answer.is_error, true);
      assert.deepEqual(await database.rows("SELECT count(*) FROM results"), [String(jobCount + 1)]);
    });
    await tally.check("the same row twice is an error of the tool", async () => {
      assert.equal((await log("hostile", "again")).is_error, true);
    });
    await tally.check("an argument that is missing is refused before the database is asked", async () => {
      await assert.rejects(call("db", "log_result", { job: "only" }), /status 400/);
    });
  });
  return tally.outcome;
}

function databaseConfig({ dsn, placeholders }: Database): string {
  return `
[[sources]]
id = "log"
dsn = "${dsn}"

[[tools]]
name = "log_result"
source = "log"
description = "Record a job's outcome"
statement = "INSERT INTO results (job, output) VALUES (${placeholders})"
readonly = false

[[tools.parameters]]
name = "job"
type = "string"
description = "The job's id"

[[tools.parameters]]
name = "output"
type = "string"
description = "What it answered"

[[tools]]
name = "execute_sql"
source = "log"
readonly = true
`;
}
