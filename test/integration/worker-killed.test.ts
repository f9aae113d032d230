/** Workers killed without warning while they run: every acknowledged job still reaches one outcome, the right one, and soon. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { describeKills, type KillsUnderLoad, killRepeatedly } from "../support/killed-hosts.ts";

const claimsBackMs = 4_000;
/** One of them, where others want the cores; what is not noticed by its silence is found ten seconds later. */
const lateMs = 7_000;
/** Two clusters at once leave the machine time to others. */
const gently = { pauseMs: 150, lookMs: 100 };

function assertSoonBack(kills: KillsUnderLoad): void {
  const backMs = kills.losses.map((loss) => loss.backMs).sort((one, other) => one - other);
  assert.ok(backMs[Math.floor((backMs.length - 1) / 2)]! <= claimsBackMs && backMs.at(-1)! <= lateMs, describeKills(kills));
}

// the chaos suite kills more of them, with devices that sleep; here a runtime dies in the midst of a run
describe("workers killed under load", { concurrency: 2 }, () => {
  test("kills of one of two workers lose nothing, and what they had in hand is back within 4 s", async (t) => {
    const kills = await killRepeatedly(2, { count: 8, everyMs: 1_500, ...gently });
    t.diagnostic(describeKills(kills));
    assert.ok(kills.losses.filter(({ jobs }) => jobs > 0).length >= 4, `too few kills met a run: ${describeKills(kills)}`);
    assertSoonBack(kills);
  });

  test("a single worker that is killed and comes back goes on with what it had in hand", async (t) => {
    const kills = await killRepeatedly(1, { count: 3, everyMs: 0, ...gently });
    t.diagnostic(describeKills(kills));
    assertSoonBack(kills);
  });
});
