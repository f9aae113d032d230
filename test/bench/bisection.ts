/** The largest rate that still holds, found by halving. Pure but for the probe. */

export interface Probe<Seen> {
  rate: number;
  holds: boolean;
  seen: Seen;
}

/**
 * Starts at `from`, takes half more or half as much until the answer changes, then halves the gap. Answers every probe in order; `best` is
 * undefined when none held.
 */
export async function bisect<Seen>(of: {
  from: number;
  probes: number;
  holds: (rate: number) => Promise<{ holds: boolean; seen: Seen }>;
}): Promise<{ best: number | undefined; probes: Probe<Seen>[] }> {
  const probes: Probe<Seen>[] = [];
  let [held, failed]: [number | undefined, number | undefined] = [undefined, undefined];
  let rate = of.from;
  while (probes.length < of.probes) {
    const answer = await of.holds(rate);
    probes.push({ rate, ...answer });
    if (answer.holds) held = Math.max(held ?? 0, rate);
    else failed = Math.min(failed ?? Number.POSITIVE_INFINITY, rate);
    rate = held === undefined ? failed! / 2 : failed === undefined ? held * 1.5 : (held + failed) / 2;
  }
  return { best: held, probes };
}
