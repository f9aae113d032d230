/** `switchyard mcp` as an application starts it, by the official client, with a whole cluster behind it. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import type { HostView, JobView } from "@switchyard/protocol";
import { type Cluster, cliMain, startCluster } from "../support/cluster.ts";
import { whileDrained } from "../support/drained-host.ts";
import { emptyRepository, type Repository, slowModel, slowRuns } from "../support/timed-models.ts";
import { until } from "../support/until.ts";

const eras = { modern: { pin: "2026-07-28" }, legacy: "legacy" } as const;
const x = [1];
let cluster: Cluster;
let repository: Repository;

before(async () => {
  repository = await emptyRepository();
  await repository.add("slow", slowModel(1));
  cluster = await startCluster({ models: repository.folder, env: slowRuns(400) });
});

after(async () => {
  await cluster?.stop();
  await repository?.remove();
});

interface Application extends AsyncDisposable {
  client: Client;
  pid: number;
  said: () => string;
  close(): Promise<void>;
}

async function startApplication(era: keyof typeof eras): Promise<Application> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [cliMain, "mcp", "--url", cluster.url],
    stderr: "pipe",
  });
  let said = "";
  transport.stderr?.on("data", (chunk: Buffer) => {
    said += String(chunk);
  });
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: eras[era] } });
  await client.connect(transport);
  const close = (): Promise<void> => client.close();
  return { client, pid: transport.pid!, said: () => said, close, [Symbol.asyncDispose]: close };
}

async function jobs(): Promise<JobView[]> {
  const { items } = (await (await fetch(`${cluster.url}/v1/jobs?model=slow`)).json()) as { items: JobView[] };
  return items;
}

async function hostId(): Promise<string> {
  const { items } = (await (await fetch(`${cluster.url}/v1/hosts`)).json()) as { items: HostView[] };
  return items.find(({ state }) => state === "ready")!.id;
}

for (const era of ["modern", "legacy"] as const) {
  test(`an application of the ${era} era lists the tools, calls a model, takes a call from the queue and ends`, async () => {
    await using application = await startApplication(era);
    const { client, pid, close } = application;
    const { tools } = await client.listTools();
    assert.ok(
      tools.some(({ name }) => name === "infer_slow"),
      tools.map(({ name }) => name).join(),
    );
    const { structuredContent, isError } = await client.callTool({ name: "infer_slow", arguments: { inputs: { x } } });
    assert.notEqual(isError, true);
    assert.equal((structuredContent as { model: string }).model, "slow");

    const known = new Set((await jobs()).map(({ id }) => id));
    const given = new AbortController();
    const call = (signal?: AbortSignal) => client.callTool({ name: "infer_slow", arguments: { inputs: { x } } }, signal && { signal });
    const added = async (): Promise<JobView[]> => (await jobs()).filter(({ id }) => !known.has(id));
    const others = await whileDrained(cluster.url, await hostId(), async () => {
      const calls = Array.from({ length: 4 }, () => call());
      const cancelled = call(given.signal);
      await until("all five to be jobs", async () => (await added()).length === 5);
      given.abort();
      await assert.rejects(cancelled);
      const [one] = await until("one to be cancelled", async () => {
        const found = (await added()).filter(({ state }) => state === "cancelled");
        return found.length > 0 && found;
      });
      assert.equal(one!.attempt, 0);
      return { calls };
    });
    for (const other of others.calls) assert.notEqual((await other).isError, true);

    await close();
    await until("the program to be gone", async () => !isAlive(pid));
  });
}

test("an application goes on when its coordinator was killed and came back, without being started again", async () => {
  await using application = await startApplication("legacy");
  const { client, said } = application;
  await client.listTools();
  const [pid] = cluster.pidsOf("coordinator");
  process.kill(pid!, "SIGKILL");
  await until("another coordinator", async () => !cluster.pidsOf("coordinator").includes(pid!));
  await until("it to be ready", async () => (await fetch(`${cluster.url}/readyz`).catch(() => undefined))?.ok, { withinMs: 60_000 });
  const { tools } = await client.listTools();
  assert.ok(tools.length > 0);
  await until("it to be said", async () => /a new session at/.test(said()), { show: said }); // on a stream of its own
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
