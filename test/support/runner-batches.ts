/** What tests of the runner ask of the commits that it sends, and how they bring it there. */

import type { Commit } from "../../worker/src/runner/claims.ts";
import { type Exchange, RunnerRig } from "./scripted-claims.ts";

export const ids = (commit: Commit | undefined): string[] => (commit?.results ?? []).map(({ id }) => id);
export const outcomes = (commit: Commit | undefined): string[] => (commit?.results ?? []).map(({ outcome }) => outcome);
export const shape = ({ commit, wish }: Exchange): [string[], string | undefined] => [ids(commit), wish?.ticketId];

/** A runner that has just been asked what a batch of queue `a` came to, together with its next look. */
export async function committing(jobs = 1, slackMs?: number): Promise<{ rig: RunnerRig; asked: Exchange }> {
  const rig = new RunnerRig();
  rig.serve("a1");
  (await rig.exchange()).answer({ claim: rig.batch(jobs, slackMs) });
  return { rig, asked: await rig.exchange() };
}

/** Runs so many batches of one job, each taking `ms`; answers the exchange that carries the last commit. */
export async function runsOf(rig: RunnerRig, count: number, ms: number): Promise<Exchange> {
  rig.onRun = () => rig.pass(ms);
  rig.serve("a1");
  let asked = await rig.exchange();
  for (let at = 0; at < count; at++) {
    asked.answer({ committed: ["committed"], claim: rig.batch() });
    asked = await rig.exchange();
  }
  return asked;
}
