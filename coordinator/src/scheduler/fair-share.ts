/**
 * How the waiting jobs of one queue share its hosts: start-time fair queueing over flows, a flow being the jobs of one tenant in one class.
 * Its unit is items, which cost alike within a model version. Pure: tags and backlogs in, slots and new tags out.
 */

import { classWeights, type JobClass } from "@switchyard/protocol";

export interface FlowShare {
  class: JobClass;
  tenantWeight: number;
}

/** Weights of all flows that wait: a class's share, divided among its tenants by theirs. */
export function flowWeights(flows: readonly FlowShare[]): number[] {
  const sums: Partial<Record<JobClass, number>> = {};
  for (const { class: one, tenantWeight } of flows) sums[one] = (sums[one] ?? 0) + tenantWeight;
  return flows.map(({ class: one, tenantWeight }) => (classWeights[one] * tenantWeight) / (sums[one] as number));
}

export interface Backlog {
  name: string;
  weight: number;
  /** Jobs that wait. */
  waiting: number;
  /** The flow's finish tag. */
  finish: number;
}

export interface Allotment {
  name: string;
  weight: number;
  slots: number;
  /** The start tag of the first slot. */
  start: number;
}

/**
 * Where a flow starts: at the clock if it was idle, since it has saved nothing. Its tag was charged by the share that it had then; if that has
 * grown since, because others have left, the flow is ahead by a full batch at most. The caller keeps what is answered as the flow's tag.
 */
export function startTag({ finish, weight }: Pick<Backlog, "finish" | "weight">, virtual: number, maxItems: number): number {
  return Math.max(virtual, Math.min(finish, virtual + maxItems / weight));
}

/**
 * Divides the slots of a batch, in the order in which flows got their first. A flow that was idle starts at the clock: it has saved nothing.
 * One flow alone takes all.
 */
export function allot(flows: readonly Backlog[], slots: number, virtual: number): Allotment[] {
  const [only] = flows;
  if (only && flows.length === 1) return [{ name: only.name, weight: only.weight, slots, start: Math.max(virtual, only.finish) }];
  let lanes = flows.map(({ name, weight, waiting, finish }) => {
    const start = Math.max(virtual, finish);
    return { given: { name, weight, slots: 0, start }, left: waiting, next: start };
  });
  if (lanes.length > slots) {
    // the others cannot get any
    lanes = lanes.filter(({ left }) => left > 0).sort((a, b) => (goesBefore(a, b) ? -1 : 1));
    lanes.length = Math.min(lanes.length, slots);
  }
  const served: Allotment[] = [];
  for (let slot = 0; slot < slots; slot++) {
    let best: (typeof lanes)[number] | undefined;
    for (const lane of lanes) if (lane.left > 0 && (!best || goesBefore(lane, best))) best = lane;
    if (!best) break;
    if (best.given.slots++ === 0) served.push(best.given);
    best.left--;
    best.next += 1 / best.given.weight;
  }
  return served;
}

type Lane = { next: number; given: Allotment };

function goesBefore(a: Lane, b: Lane): boolean {
  if (a.next !== b.next) return a.next < b.next;
  if (a.given.weight !== b.given.weight) return a.given.weight > b.given.weight;
  return a.given.name < b.given.name;
}

/** The flow's finish tag, and the start tag of its last item, after it was served so many. The clock is the largest of the latter. */
export function charge({ start, weight }: Pick<Allotment, "start" | "weight">, items: number): { finish: number; lastStart: number } {
  return { finish: start + items / weight, lastStart: start + Math.max(0, items - 1) / weight };
}

/** Another flow, as a job sees it. */
export interface Rival {
  /** Items that wait. */
  items: number;
  weight: number;
  /** Items that are expected of it by when the job must start. */
  coming?: number;
}

/**
 * Items that are served before a job that `own.items` of its own flow precede, `own.weight` and theirs being the flows' weights. Each rival gets its share
 * of the slots until then, or all that it has and that comes meanwhile; what comes once the job's flow has its turn stands behind it. `coming` holds
 * for the time in which `mostAhead` are served; where more are ahead than that, it goes on at that rate, and the answer says how many will be
 * served: an integer above `mostAhead`.
 */
export function aheadOf(own: { items: number; weight: number }, rivals: readonly Rival[], mostAhead = Number.POSITIVE_INFINITY): number {
  const lanes = rivals.map(({ coming = 0, items, weight }) => {
    const ratio = weight / own.weight;
    return { items, coming, most: Math.max(Math.min(items, Math.ceil((own.items + 1) * ratio)), Math.floor(own.items * ratio)) };
  });
  let [ahead, largest] = [own.items, own.items];
  for (const { coming, items, most } of lanes) {
    ahead += Math.min(items + coming, most);
    largest += most;
  }
  if (ahead <= mostAhead || !(mostAhead > 0)) return Math.ceil(ahead);
  // What is ahead after `largest` were served is a concave function of that: from the right, each tangent leads closer to where both are the same.
  for (let served = largest; ; ) {
    let [fixed, pace] = [own.items, 0];
    for (const { coming, items, most } of lanes) {
      const isWhole = items + (coming * served) / mostAhead >= most;
      fixed += isWhole ? most : items;
      pace += isWhole ? 0 : coming / mostAhead;
    }
    const next = pace < 1 ? fixed / (1 - pace) : served;
    if (!(next < served)) return Math.max(mostAhead + 1, Math.ceil(served));
    served = next;
  }
}
