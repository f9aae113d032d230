/** A worker killed under load: how soon what it had in hand waits again. That nothing is lost or answered twice is checked on every job. */

import { describeKills, killRepeatedly } from "../../support/killed-hosts.ts";
import { budget } from "./budget.ts";
import type { RowContext, RowResult } from "./row.ts";
import { shown } from "./shown.ts";

const everyMs = 1_500;

export async function killedRow(context: RowContext): Promise<RowResult> {
  const kills = await killRepeatedly(2, { count: context.isQuick ? 4 : 12, everyMs });
  context.say(`  ${describeKills(kills)}`);
  const caught = kills.losses.filter(({ jobs }) => jobs > 0);
  const worst = Math.max(...caught.map(({ backMs }) => backMs));
  return {
    title: `one of two workers killed ${kills.losses.length} times; ${kills.held} held calls and ${kills.submitted} submissions, none lost, none answered twice`,
    table: {
      titles: ["kills with jobs in hand", "jobs in hand", "waiting again after ms", "claimed again after ms"],
      lines: [
        [
          String(caught.length),
          String(caught.reduce((sum, { jobs }) => sum + jobs, 0)),
          shown(
            caught.map(({ backMs }) => backMs),
            0,
          ),
          shown(
            caught.map(({ claimedMs }) => claimedMs),
            0,
          ),
        ],
      ],
    },
    details: [kills],
    budgets: [
      budget({
        text: "the worst claim is back within 4 s",
        rounds: [{ value: caught.length > 0 ? worst / 1000 : undefined, isQuiet: true }],
        limit: 4,
        better: "lower",
      }),
    ],
  };
}
