/** Workers killed without warning while they run: every acknowledged job still reaches one outcome, the right one, and soon. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeKills, killRepeatedly } from "../support/killed-hosts.ts";

const claimsBackMs = 4_000;
/** Two clusters at once leave the machine time to others. */
const gently = { pauseMs: 150, lookMs: 100 };

// the chaos suite kills more of them, with devices that sleep; here a runtime dies in the midst of a run
describe("workers killed under load", { concurrency: 2 }, () => {
  test("kills of one of two workers lose nothing, and what they had in hand is back within 4 s", async (t) => {
    const kills = await killRepeatedly(2, { count: 8, everyMs: 1_500, ...gently });
    t.diagnostic(describeKills(kills));
    assert.ok(kills.losses.filter(({ jobs }) => jobs > 0).length >= 4, `too few kills met a run: ${describeKills(kills)}`);
    for (const { backMs } of kills.losses) assert.ok(backMs <= claimsBackMs, describeKills(kills));
  });

  test("a single worker that is killed and comes back goes on with what it had in hand", async (t) => {
    const kills = await killRepeatedly(1, { count: 3, everyMs: 0, ...gently });
    t.diagnostic(describeKills(kills));
    for (const { backMs } of kills.losses) assert.ok(backMs <= claimsBackMs, describeKills(kills));
  });
});
