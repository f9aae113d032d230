/** Clients that wait at a coordinator that dies for good, beside another one on the same Redis. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ConnectionError, Switchyard } from "switchyard";
import { startCluster } from "../support/cluster.ts";

const heldOut: { images: string[] } = JSON.parse(readFileSync(new URL("../data/digits/held-out.json", import.meta.url), "utf8"));
const callers = 60;

function inputs(index: number) {
  return { image: { data: Float32Array.from(heldOut.images[index]!, (pixel) => Number.parseInt(pixel, 17)), shape: [1, 64] } };
}

test("every caller of a killed coordinator gets its own result, once, from the other", async () => {
  await using cluster = await startCluster({ coordinators: 2 });
  const doomed = cluster.coordinators[0]!;
  const lasting = new Switchyard({ url: cluster.url });
  const expected: unknown[] = [];
  for (let index = 0; index < callers; index++) expected.push((await lasting.infer("digits", inputs(index))).outputs.label?.data[0]);

  let [atDoomed, atOther] = [0, 0];
  const counting: typeof fetch = (url, init) => {
    if (String(url).startsWith(doomed.url)) atDoomed++;
    else atOther++;
    return fetch(url, init);
  };
  const client = new Switchyard({ url: [doomed.url, cluster.url], fetch: counting });
  const [worker] = cluster.pidsOf("worker");
  process.kill(worker!, "SIGSTOP"); // so that all of them wait
  const delivered = new Map<number, unknown[]>();
  const deliver = (index: number, label: unknown): void => void delivered.set(index, [...(delivered.get(index) ?? []), label]);
  const waiting: Promise<void>[] = [];
  for (let index = 0; index < callers; index++) {
    if (index % 2 === 0) {
      const job = await client.submit("digits", inputs(index));
      waiting.push(job.result().then((result) => deliver(index, result.outputs.label?.data[0])));
    } else {
      const answer = client.infer("digits", inputs(index), { timeoutMs: 60_000 });
      waiting.push(answer.then((result) => deliver(index, result.outputs.label?.data[0])));
    }
  }
  // a wait that lasts is asked for again
  assert.ok(atDoomed >= callers + callers / 2, `${atDoomed} submissions, waits for them and held calls`);
  assert.equal(atOther, 0, "all of them went to the one that dies");
  doomed.kill("SIGKILL");
  await doomed.exited;
  process.kill(worker!, "SIGCONT");
  await Promise.all(waiting);

  for (let index = 0; index < callers; index++) assert.deepEqual(delivered.get(index), [expected[index]]);
  await assert.rejects(new Switchyard({ url: doomed.url, retry: false }).hosts(), ConnectionError);
});
