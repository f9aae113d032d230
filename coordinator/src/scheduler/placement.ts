/**
 * Which host should hold which model: a plan from what is held, what is used, what model.yaml demands and what fits. Pure. A plan changes
 * little at a time, so that a wrong one is cheap, and it only says what must change: what nobody uses stays where it is until its room is
 * needed. Models that nobody planned for are loaded on demand, by the host that takes their first ticket.
 */

/** Device milliseconds that a model's runs took, a second, as moving averages. */
export interface Demand {
  over10sMs: number;
  over60sMs: number;
}

export interface PlacedModel {
  tag: string;
  memoryMb: number;
  /** What a load takes; a guess where none was seen. */
  loadMs: number;
  demand: Demand;
  pin: boolean;
  minReplicas: number;
  maxReplicas: number;
}

export interface PlacementHost {
  id: string;
  /** What it lends to models, and how many it holds at most. */
  memoryMb: number;
  mostModels: number;
  /** Tags of held models, with the time for which they have been held. */
  holds: ReadonlyMap<string, number>;
}

export interface PlacementView {
  models: readonly PlacedModel[];
  hosts: readonly PlacementHost[];
  /** How gladly the host takes the model, more is better; undefined when it must not, or lately could not. */
  score: (model: PlacedModel, host: PlacementHost) => number | undefined;
  /** Of models that are not in `models`: what they take where they are held. */
  memoryMbOf: (tag: string) => number;
}

/** Of one host. What stands in neither list stays as it is. */
export interface HostPlan {
  load: string[];
  drop: string[];
  /** Not to be pushed out by a load on demand. */
  keep: string[];
}

/** A device that is used more than this has no room for a burst. */
const targetUse = 0.7;
/** A model that makes up this share of the traffic must survive the loss of a host. */
const largeShare = 0.2;
/** Less traffic than this, in device ms a second, is no traffic: nothing is loaded in advance for it. */
const leastDemandMs = 20;
/** A model stays at least this many times as long as its load took, unless a promise needs its room. */
const stayLoads = 10;
/** Changes of one step, as a share of all that is held. */
const changeShare = 0.1;

export function planPlacement(view: PlacementView): Map<string, HostPlan> {
  const plan = new Map<string, HostPlan>(view.hosts.map(({ id }) => [id, { load: [], drop: [], keep: [] }]));
  const totalMs = view.models.reduce((sum, model) => sum + demandMs(model), 0);
  const held = view.hosts.reduce((sum, host) => sum + host.holds.size, 0);
  let changes = Math.max(1, Math.ceil(held * changeShare));
  const wanted = view.models.map((model) => ({ model, replicas: replicasOf(model, totalMs), holders: holdersOf(model, view) }));
  for (const { model, holders } of wanted) {
    const least = Math.min(Math.max(model.minReplicas, model.pin ? 1 : 0), model.maxReplicas);
    for (const { id } of holders.slice(0, least)) plan.get(id)!.keep.push(model.tag);
    for (const { id } of holders.slice(model.maxReplicas)) if (changes-- > 0) plan.get(id)!.drop.push(model.tag);
  }
  // what was promised comes before what is merely useful; within both, the most used first
  const lacking = wanted.filter(({ holders, replicas }) => holders.length < replicas);
  const isPromised = ({ holders, model }: (typeof wanted)[number]): boolean =>
    holders.length < Math.max(model.minReplicas, model.pin ? 1 : 0);
  lacking.sort((one, other) => Number(isPromised(other)) - Number(isPromised(one)) || demandMs(other.model) - demandMs(one.model));
  for (const one of lacking) {
    if (changes <= 0) break;
    const place = placeFor(one.model, isPromised(one), { view, plan, wanted });
    if (!place) continue;
    const own = plan.get(place.host.id)!;
    own.load.push(one.model.tag);
    if (isPromised(one)) own.keep.push(one.model.tag);
    own.drop.push(...place.drop);
    changes -= 1 + place.drop.length;
  }
  return plan;
}

/** A burst counts, but at most as twice of what has been. */
function demandMs({ demand }: PlacedModel): number {
  return Math.max(demand.over60sMs, Math.min(demand.over10sMs, 2 * demand.over60sMs));
}

function replicasOf(model: PlacedModel, totalMs: number): number {
  const ownMs = demandMs(model);
  let byDemand = ownMs < leastDemandMs ? 0 : Math.ceil(ownMs / (1_000 * targetUse));
  if (byDemand === 1 && ownMs >= largeShare * totalMs) byDemand = 2;
  return Math.min(model.maxReplicas, Math.max(byDemand, model.minReplicas, model.pin ? 1 : 0));
}

/** Those that should hold it first: by score, then by how long they have. */
function holdersOf(model: PlacedModel, { hosts, score }: PlacementView): PlacementHost[] {
  const rank = (host: PlacementHost): number => score(model, host) ?? Number.NEGATIVE_INFINITY;
  return hosts
    .filter((host) => host.holds.has(model.tag))
    .sort((one, other) => rank(other) - rank(one) || other.holds.get(model.tag)! - one.holds.get(model.tag)!);
}

interface Planning {
  view: PlacementView;
  plan: ReadonlyMap<string, HostPlan>;
  wanted: readonly { model: PlacedModel; replicas: number; holders: readonly PlacementHost[] }[];
}

/** The best host that takes it, and what must go there for it. One load a host and step. */
function placeFor(model: PlacedModel, isPromised: boolean, planning: Planning): { host: PlacementHost; drop: string[] } | undefined {
  const { plan, view } = planning;
  const places = view.hosts.flatMap((host) => {
    const score = view.score(model, host);
    if (score === undefined || host.holds.has(model.tag) || plan.get(host.id)!.load.length > 0) return [];
    const drop = makeRoom(host, model, isPromised, planning);
    return drop ? [{ host, score, drop, freeMb: freeMb(host, view) }] : [];
  });
  places.sort((one, other) => other.score - one.score || one.drop.length - other.drop.length || other.freeMb - one.freeMb);
  return places[0];
}

function freeMb(host: PlacementHost, view: PlacementView): number {
  let usedMb = 0;
  for (const tag of host.holds.keys()) usedMb += view.memoryMbOf(tag);
  return host.memoryMb - usedMb;
}

/** What has to go for it, least used first; undefined when that is not enough, or worth more than what comes. */
function makeRoom(host: PlacementHost, coming: PlacedModel, isPromised: boolean, { plan, view, wanted }: Planning): string[] | undefined {
  const going = new Set(plan.get(host.id)!.drop);
  let free = freeMb(host, view) + [...going].reduce((sum, tag) => sum + view.memoryMbOf(tag), 0);
  let count = host.holds.size - going.size;
  const needsRoom = (): boolean => count >= host.mostModels || (free < coming.memoryMb && count > 0);
  if (!needsRoom()) return [];
  const kept = new Set(plan.get(host.id)!.keep);
  const candidates = [...host.holds].flatMap(([tag, heldMs]) => {
    const known = wanted.find(({ model }) => model.tag === tag);
    const usedMs = known ? demandMs(known.model) : 0;
    if (going.has(tag) || kept.has(tag) || (!isPromised && heldMs < stayLoads * (known?.model.loadMs ?? 0))) return [];
    const isNeeded = known !== undefined && usedMs >= leastDemandMs && known.holders.length <= known.replicas;
    if (isNeeded && !isPromised && usedMs * 2 > demandMs(coming)) return [];
    return [{ tag, usedMs }];
  });
  candidates.sort((one, other) => one.usedMs - other.usedMs);
  const drop: string[] = [];
  for (const { tag } of candidates) {
    if (!needsRoom()) break;
    drop.push(tag);
    free += view.memoryMbOf(tag);
    count -= 1;
  }
  return needsRoom() ? undefined : drop;
}
