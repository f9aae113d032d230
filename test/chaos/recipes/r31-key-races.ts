/** R31: one idempotency key, many at once: one job, whichever coordinator is asked, whatever becomes of the job meanwhile. */

import { type Answer, call } from "../../support/calls.ts";
import { deviceModelName, rowOf } from "../device-model.ts";
import type { Recipe } from "../recipe.ts";
import { Scene } from "../scene.ts";

const keysAtOnce = { smoke: 5, nightly: 25, soak: 500 } as const;
const posts = 200;

export const keyRaces: Recipe = {
  id: "R31",
  title: "two hundred posts at once with one key",
  tiers: ["smoke", "nightly", "soak"],
  async run(context) {
    const { tier, seed } = context;
    await using scene = await Scene.open(context, { hosts: 1, coordinators: 2, inOneProcess: tier === "smoke" });
    const load = await scene.begin({ seed, rate: 20, timeoutMs: { least: 12_000, most: 16_000 } });
    const { urls } = scene.cluster;
    const post = (name: string, number: number, turn: number): Promise<Answer> => {
      const inputs = [{ name: "x", datatype: "FP32", shape: [1, 4], data: rowOf(number) }];
      const headers = { "idempotency-key": name };
      return call(`${urls[turn % urls.length]}/v1/jobs`, { headers, body: { model: deviceModelName, inputs } });
    };
    let [several, otherBodies, changed] = [0, 0, 0];
    for (let at = 1; at <= keysAtOnce[tier]; at++) {
      const [name, number] = [`race-${seed}-${at}`, 1_000_000 + at];
      scene.ledger.note({ kind: "submit", key: name, number, manner: "queued", timeoutMs: 60_000, atMs: Date.now() });
      const answers = await Promise.all(Array.from({ length: posts }, (_, turn) => post(name, number, turn)));
      const ids = new Set(answers.map((answer) => (answer.status === 202 ? answer.json().id : `${answer.status} ${answer.bytes}`)));
      several += ids.size - 1;
      const [id] = [...ids] as [string];
      scene.fault(`${posts} posts with one key made ${ids.size} job`);
      load.adopt(name, id);
      for (const turn of [0, 1]) otherBodies += Number((await post(name, number + 500_000, turn)).status !== 422);
      await call(`${urls[0]}/v1/jobs/${id}?wait=30`);
      const again = await post(name, number, at);
      changed += Number(again.json().id !== id || again.json().state !== "succeeded" || again.headers["idempotent-replayed"] !== "true");
    }
    const expected = { jobs: keysAtOnce[tier], faults: keysAtOnce[tier], executions: keysAtOnce[tier] };
    return await scene.course(expected, ({ counts }) => [
      { what: "further jobs under a key", value: several, limit: 0, better: "lower" },
      { what: "other bodies that were not refused", value: otherBodies, limit: 0, better: "lower" },
      { what: "repeats after the end that were answered otherwise", value: changed, limit: 0, better: "lower" },
      { what: "jobs that ran again", value: counts.ranAgain, limit: 0, better: "lower" },
    ]);
  },
};
