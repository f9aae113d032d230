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
  /** Items that wait. */
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
 * grown since, because others have left, the flow is ahead by a full batch at most, or by its last job, if that is larger. The caller keeps what is answered as
 * the flow's tag.
 */
export function startTag({ finish, weight }: Pick<Backlog, "finish" | "weight">, virtual: number, mostItems: number): number {
  return Math.max(virtual, Math.min(finish, virtual + mostItems / weight));
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

/**
 * The flow's finish tag, and the start tag of its last job, after it was served so many items, of which the last job has some. `waste`: slots of the batch that nobody
 * could use while somebody waited, for each item in it. They are charged to those who were served: who can only be served in small batches takes the
 * device's time all the same.
 */
export function charge(
  { start, weight }: Pick<Allotment, "start" | "weight">,
  { items, last, waste = 0 }: { items: number; last: number; waste?: number },
): { finish: number; lastStart: number } {
  return { finish: start + (items * (1 + waste)) / weight, lastStart: start + Math.max(0, items - last) / weight };
}

/**
 * Where the clock stands after a batch: at the latest start tag of a job that was served, but behind no flow that waited beside it. Flows whose jobs are large, or
 * did not fit in, keep what they are owed; who comes later starts level with them.
 */
export function clockAfter(virtual: number, lastStarts: readonly number[], waitingTags: readonly number[]): number {
  if (lastStarts.length === 0) return virtual;
  return Math.max(virtual, Math.min(Math.max(...lastStarts), ...waitingTags));
}

const trace = 1e-6;

/** Another tenant of a job's class, or another class. */
export interface Rival {
  /** Items that wait. */
  items: number;
  weight: number;
  /** Items that are expected of it while `mostAhead` are served. */
  coming: number;
}

export interface Beside {
  tenants: readonly Rival[];
  classes: readonly Rival[];
}

/**
 * Items that are served before a job that `own.items` of its own flow precede, `own.weight` being its tenant's weight. Each other tenant of its class gets its
 * share of the class's slots until then, or all that it has and that comes meanwhile, and each other class as much beside this one; what comes once it
 * is the job's turn stands behind it. Where more than `mostAhead` are ahead, what comes is taken to go on as fast, and the answer says how many will
 * be served, to a hundredth: an integer above `mostAhead`.
 */
export function aheadOf(
  own: { items: number; weight: number; classWeight: number },
  { classes, tenants }: Beside,
  mostAhead = Number.POSITIVE_INFINITY,
): number {
  let certain = own.items; // of the class, but for those lanes of which it depends on what comes
  const lanes: { items: number; coming: number; most: number }[] = [];
  for (const { coming, items, weight } of tenants) {
    const most = mostBefore(own.items, items, weight / own.weight);
    if (items >= most || coming === 0) certain += Math.min(items, most);
    else lanes.push({ items, coming, most });
  }
  /** Ahead once `part` of what is expected has come. What came never fades wholly: a trace of it is no item. */
  const after = (part: number): number => {
    let before = certain;
    for (const { coming, items, most } of lanes) before += Math.min(items + coming * part, most);
    let all = before;
    for (const { coming, items, weight } of classes)
      all += Math.min(items + coming * part, mostBefore(before, items, weight / own.classWeight));
    return Math.max(0, Math.ceil(all - trace));
  };
  const ahead = after(1);
  if (ahead <= mostAhead || !(mostAhead > 0)) return ahead;
  // it is the job's turn when what is ahead after so many were served is no more than these
  let [low, high] = [mostAhead, after(1e300)];
  while (high - low > Math.max(1, high / 100)) {
    const middle = Math.floor((low + high) / 2);
    if (after(middle / mostAhead) > middle) low = middle;
    else high = middle;
  }
  return high;
}

/** Slots that another gets before one that `before` of its own precede: of what waits a turn of its own as well, of what comes those before. */
function mostBefore(before: number, items: number, ratio: number): number {
  return Math.max(Math.min(items, Math.ceil((before + 1) * ratio)), Math.floor(before * ratio));
}
