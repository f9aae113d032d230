/** Whose the records are that nobody was told of: calls without a key are known by their jobs' answers, or counted by what they heard. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { BareCalls } from "../chaos/bare-calls.ts";
import { answerTo } from "../chaos/device-model.ts";
import { Ledger } from "../chaos/ledger.ts";
import type { Answer } from "../support/calls.ts";

type Told = "succeeded" | "expired" | "run_failed" | "deadline_unattainable" | "nothing" | "nonsense";

/** Calls that are answered so, numbered from 1. */
async function callsTold(...told: Told[]): Promise<{ calls: BareCalls; ledger: Ledger }> {
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (part) => {
      text += part;
    });
    request.on("end", () => {
      const number = JSON.parse(text).inputs[0].data[0] as number;
      const what = told[number - 1]!;
      if (what === "nothing") return request.socket.destroy();
      if (what === "succeeded") return response.end(JSON.stringify({ outputs: [{ data: answerTo(number) }] }));
      if (what === "nonsense") return response.end("{}");
      return response.writeHead(503, { "x-switchyard-error": what }).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const ledger = new Ledger();
  const calls = new BareCalls({ ledger, mayRefuse: [], credentials: {} });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  for (const at of told.keys()) calls.one(url, { key: `bare-${at + 1}`, number: at + 1, timeoutMs: 5_000 });
  await calls.end();
  server.close();
  server.closeAllConnections();
  return { calls, ledger };
}

/** A store in which these jobs have records; of one that succeeded with the answer to that number. */
const storeOf = (jobs: Record<string, string | number>) => async (path: string) => {
  const [, , , id, isResult] = path.split("/");
  const job = jobs[id!];
  if (job === undefined) return { status: 404, headers: {} } as Answer;
  const view = {
    state: typeof job === "number" ? "succeeded" : job,
    attempt: 1,
    created_at: new Date(0),
    finished_at: new Date(1),
    deadline: new Date(2),
  };
  const body = isResult ? { outputs: [{ data: answerTo(job as number) }] } : view;
  return { status: 200, headers: { etag: '"3"' }, json: () => JSON.parse(JSON.stringify(body)) } as unknown as Answer;
};

const known = ({ events }: Ledger): [string, string][] => events.flatMap((event) => (event.kind === "ack" ? [[event.id, event.key]] : []));

test("a record belongs to the call whose answer it holds, also where that call heard nothing", async () => {
  const { calls, ledger } = await callsTold("succeeded", "nothing");
  assert.deepEqual(await calls.lookAt(["a", "b", "c"], storeOf({ a: 2, b: 1, c: 77 })), []);
  assert.deepEqual(known(ledger).sort(), [
    ["a", "bare-2"],
    ["b", "bare-1"],
  ]);
});

test("what did not succeed is explained by calls that heard so, and then by those that heard nothing, each once", async () => {
  const { calls } = await callsTold("nothing", "expired", "run_failed");
  const jobs = { a: "expired", b: "failed", c: "expired", d: "expired", e: "cancelled" };
  assert.deepEqual((await calls.lookAt(Object.keys(jobs), storeOf(jobs))).length, 3);
});

test("a refusal leaves no job, and a call whose record was found has no second one", async () => {
  const { calls } = await callsTold("deadline_unattainable", "nothing");
  assert.deepEqual(await calls.lookAt(["a", "b"], storeOf({ a: 2, b: "expired" })), []);
});

test("a record that has gone since is explained, and one that is open again is not", async () => {
  const { calls } = await callsTold("nothing");
  assert.deepEqual(await calls.lookAt(["gone", "open"], storeOf({ open: "running" })), ["gone"]);
});

test("an answer that nothing explains is told, and ends nothing else", async () => {
  const { ledger } = await callsTold("nonsense", "succeeded");
  assert.deepEqual(ledger.events.map(({ kind }) => kind).sort(), ["answered", "broken", "called", "called"]);
});
