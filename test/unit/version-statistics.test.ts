/** When statistics are read: with a clock that the test moves, and a store that hears late of what was answered. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyTally, type QueueTally } from "@switchyard/protocol";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { StatisticsOfVersions } from "../../coordinator/src/application/version-statistics.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { ManualClock } from "../support/manual-clock.ts";

test("one ask holds what was answered before it, though hosts tell of it only a fifth of a second later", async () => {
  const clock = new ManualClock();
  const models = fakeModels([{ model: "tiny", version: 1, signature: { inputs: [], outputs: [] } }]);
  const tallies = new Map<string, QueueTally>();
  const statistics = { read: async (tags: readonly string[]) => new Map([...tallies].filter(([tag]) => tags.includes(tag))) };
  clock.after(200, () => void tallies.set(models.list()[0]!.version.tag, { ...emptyTally(), success: { count: 3, ms: 30 }, items: 4 }));

  const asked = new StatisticsOfVersions({ statistics, models, clock }).of({ model: "tiny" }, localCaller);
  await clock.advance(1_000);
  const told = (await asked).map(({ tally: { items, success }, ...version }) => ({ ...version, items, success }));
  assert.deepEqual(told, [{ model: "tiny", version: 1, items: 4, success: { count: 3, ms: 30 } }]);
});
