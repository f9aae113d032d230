/** How much device time each model takes, from running totals that hosts tell. Pure: the time between two looks is an argument. */

import type { Demand } from "./placement.ts";

const windowsMs = { over10sMs: 10_000, over60sMs: 60_000 } as const;
/** Below this a model counts as unused, and is forgotten. */
const leastMs = 0.01;

/** Device milliseconds so far, by source (one start of a host) and tag. A source that was not there before starts at its first total. */
export type Totals = ReadonlyMap<string, Readonly<Record<string, number>>>;

export function nextDemand(
  before: ReadonlyMap<string, Demand>,
  looks: { last: Totals; now: Totals; passedMs: number },
): Map<string, Demand> {
  const { last, now, passedMs } = looks;
  const usedMs = new Map<string, number>();
  for (const [source, totals] of now) {
    const earlier = last.get(source);
    if (!earlier) continue;
    for (const [tag, total] of Object.entries(totals)) {
      // a total that fell belongs to a model that was loaded anew
      const more = total - (earlier[tag] ?? 0);
      usedMs.set(tag, (usedMs.get(tag) ?? 0) + (more < 0 ? total : more));
    }
  }
  const next = new Map<string, Demand>();
  if (passedMs <= 0) return new Map(before);
  for (const tag of new Set([...before.keys(), ...usedMs.keys()])) {
    const perSecond = ((usedMs.get(tag) ?? 0) * 1_000) / passedMs;
    const moved = (average: number, windowMs: number): number => average + (perSecond - average) * (1 - Math.exp(-passedMs / windowMs));
    const demand = {
      over10sMs: moved(before.get(tag)?.over10sMs ?? 0, windowsMs.over10sMs),
      over60sMs: moved(before.get(tag)?.over60sMs ?? 0, windowsMs.over60sMs),
    };
    if (demand.over10sMs >= leastMs || demand.over60sMs >= leastMs) next.set(tag, demand);
  }
  return next;
}
