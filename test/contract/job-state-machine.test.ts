/**
 * Random walks over the job protocol: clients, two hosts, a sweeper and lost replies in any order, on the real scripts and on the memory
 * store. After every step the whole queue is looked at. SWITCHYARD_FUZZ_RUNS sets the number of walks, SWITCHYARD_FUZZ_SEED repeats one.
 */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isTerminal, type JobClass, type JobState, type Ladder, mayBecome } from "@switchyard/protocol";
import fc from "fast-check";
import { redisRigs } from "../support/file-rigs.ts";
import {
  type AuditedJob,
  type ClaimWishes,
  clockPasses,
  type HostJob,
  type HostOutcome,
  type JobRig,
  type QueueAudit,
  type TestHost,
  timePasses,
} from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const runs = Number(process.env.SWITCHYARD_FUZZ_RUNS ?? 300);
const seed = Number(process.env.SWITCHYARD_FUZZ_SEED ?? Date.now() % 2 ** 31);
const stepsPerRun = 40;
const matchingHosts = 2;

const rigs = await redisRigs();

interface Held {
  sequence: number;
  jobs: HostJob[];
}

/** A host as the walk knows it. `claims` are the batches that it was told of and has not committed: one, and one claimed ahead. */
interface Actor {
  host: TestHost;
  ticket: string;
  claims: Held[];
  lastClaim: (Held & { isAhead: boolean }) | undefined;
  lastCommit: { ticket: string; outcomes: HostOutcome[] } | undefined;
  /** The sequence of the claim that stood for it last, while its ticket lingered. */
  stood: number;
}

/** What the walk remembers to compare with: the last audit, and who is who. */
interface Walk {
  ids: string[];
  actors: Actor[];
  /** Incarnations that were taken back, with what they still believe to run. */
  zombies: Actor[];
  last: QueueAudit | undefined;
  hostsMade: number;
  seen: Seen;
}

/** What all walks together have come across. */
interface Seen {
  steps: Record<string, number>;
  transitions: Record<string, number>;
  answers: Record<string, number>;
}

const count = (table: Record<string, number>, name: string): void => {
  table[name] = (table[name] ?? 0) + 1;
};

interface Place {
  rig: JobRig;
}

function actor(rig: JobRig, walk: Walk): Actor {
  return { host: rig.host(`host-${++walk.hostsMade}`), ticket: "", claims: [], lastClaim: undefined, lastCommit: undefined, stood: 0 };
}

const jobsOf = ({ claims }: Actor): HostJob[] => claims.flatMap(({ jobs }) => jobs);

const pick = <T>(list: readonly T[], nth: number): T | undefined => (list.length === 0 ? undefined : list[nth % list.length]);

// ---- what must hold after every step

function checkJob(seen: Seen, id: string, now: AuditedJob, before: AuditedJob | undefined): void {
  if (before === undefined) return;
  if (now.state !== before.state) {
    count(seen.transitions, `${before.state} → ${now.state}`);
    // several moves may lie between two looks only where one step makes them; each step makes one
    assert.ok((mayBecome[before.state] as readonly JobState[]).includes(now.state), `${id}: ${before.state} became ${now.state}`);
    assert.ok(now.revision > before.revision, `${id}: its revision rises with every move`);
  }
  if (isTerminal(before.state)) {
    const { ttlMs: _now, ...still } = now;
    const { ttlMs: _before, ...was } = before;
    assert.deepEqual(still, was, `${id} had ended`);
  }
  assert.ok(now.fence >= before.fence && now.failures >= before.failures && now.revision >= before.revision, `${id} went back in time`);
  assert.ok(now.fence <= before.fence + 1, `${id}: one claim, one fence`);
  // a batch that goes back unrun gives the attempt back with it; otherwise attempts only rise
  if (now.attempt < before.attempt) assert.ok(now.state === "queued" && now.attempt === now.failures, `${id}: its attempt fell`);
}

function checkQueue(audit: QueueAudit): void {
  const open = [...audit.jobs].filter(([, { state }]) => !isTerminal(state));
  assert.deepEqual([...audit.due].sort(), open.map(([id]) => id).sort(), "due holds exactly the open jobs");
  const waiting = [...Object.values(audit.order).flat(), ...audit.later].sort();
  const queued = open.filter(([, { state }]) => state === "queued").map(([id]) => id);
  assert.deepEqual(waiting, queued.sort(), "every waiting job stands in exactly one line");
  const claimed = audit.claims.flatMap(({ jobs }) => jobs.map(({ id, fence }) => `${id}=${fence}`)).sort();
  const running = open.filter(([, { state }]) => state === "running").map(([id, { fence }]) => `${id}=${fence}`);
  assert.deepEqual(claimed, running.sort(), "every running job is in exactly one claim, under its fence");
  assert.deepEqual(audit.immortal, [], "what has ended goes away by itself");
  for (const [id, { state, ttlMs }] of audit.jobs) assert.equal(ttlMs >= 0, isTerminal(state), `${id} (${state}) lives ${ttlMs} ms`);
  const untaken = audit.tickets.filter(({ state }) => state === "issued").length;
  assert.ok(untaken <= matchingHosts + 1, `${untaken} tickets that nobody took`);
}

async function look(walk: Walk, { rig }: Place, what: string): Promise<void> {
  count(walk.seen.steps, what);
  const audit = await rig.audit();
  for (const [id, job] of audit.jobs) checkJob(walk.seen, id, job, walk.last?.jobs.get(id));
  for (const id of walk.ids) assert.ok(audit.jobs.has(id), `${id} is lost`);
  await Promise.all([checkInputs(audit, rig), checkAttempts(audit, rig)]);
  checkQueue(audit);
  walk.last = audit;
}

/** Inputs are there as long as they may be needed: until the end, and those of dead letters after it. */
async function checkInputs(audit: QueueAudit, rig: JobRig): Promise<void> {
  for (const id of audit.dead) assert.equal(audit.jobs.get(id)?.state, "failed", `${id} is a dead letter`);
  const needed = [...audit.jobs].filter(([id, { state }]) => !isTerminal(state) || audit.dead.includes(id)).map(([id]) => id);
  const kept = await rig.store.inputsKept([...audit.jobs.keys()]);
  assert.deepEqual([...kept].sort(), needed.sort(), "inputs of open jobs and dead letters are kept, and no others");
}

/** Each claim after which a job waited again is noted, once, and the last one stands in the record where the job runs or ended with it. */
async function checkAttempts(audit: QueueAudit, rig: JobRig): Promise<void> {
  const claimed = [...audit.jobs].filter(([, { fence }]) => fence > 0);
  const attempts = await Promise.all(claimed.map(([id]) => rig.store.attempts(id)));
  for (const [at, [id, { fence, state }]] of claimed.entries()) {
    const fences = attempts[at]!.map((attempt) => attempt.fence);
    assert.deepEqual(
      fences,
      fences.map((_fence, at) => at + 1),
      `${id}: the attempts that are noted`,
    );
    const noted = state === "queued" ? [fence] : state === "running" ? [fence - 1] : [fence - 1, fence];
    assert.ok(noted.includes(fences.length), `${id} (${state}, fence ${fence}) has ${fences.length} attempts noted`);
  }
}

/** A sweep leaves no waiting job without a ticket that can act or will soon be free. */
function checkLiveness(audit: QueueAudit, sweptMs: number): void {
  if (Object.values(audit.order).flat().length === 0) return;
  assert.ok(
    audit.tickets.some(({ untilMs }) => untilMs > sweptMs),
    "a queue with waiting jobs has a live ticket after a sweep",
  );
}

// ---- what may happen

const ladder: Ladder = [
  [1, 3],
  [2, 4],
  [4, 6],
];

type Step = (walk: Walk, place: Place) => Promise<void>;

class Move implements fc.AsyncCommand<Walk, Place> {
  readonly name: string;
  readonly #step: Step;
  constructor(name: string, step: Step) {
    this.name = name;
    this.#step = step;
  }
  check(): boolean {
    return true;
  }
  async run(walk: Walk, place: Place): Promise<void> {
    await this.#step(walk, place);
    await look(walk, place, this.name.split("(")[0] as string);
  }
  toString(): string {
    return this.name;
  }
}

/** A host that nothing holds takes a ticket that was offered, if one is left. */
async function seat(walk: Walk, rig: JobRig, one: Actor, nth: number): Promise<boolean> {
  if (one.ticket !== "") return true;
  const ticket = pick([...new Set(rig.offered)].slice(-4), nth);
  if (ticket === undefined || (await one.host.take(ticket)) !== "held") return false;
  // the last taker wins
  for (const other of walk.actors) if (other !== one && other.ticket === ticket) other.ticket = `lost:${ticket}`;
  one.ticket = ticket;
  return true;
}

async function claim(seen: Seen, one: Actor, how: ClaimWishes): Promise<void> {
  if (one.ticket.startsWith("lost:")) {
    assert.equal((await one.host.claim(one.ticket.slice(5), how)).kind, "not_yours");
    if (one.claims.length === 0) one.ticket = "";
    return;
  }
  const isAhead = how.isAhead === true;
  const next = one.host.sequence + 1;
  const answer = await one.host.claim(one.ticket, { ...how, busyMs: 40 });
  count(seen.answers, isAhead ? `ahead: ${answer.kind}` : answer.kind);
  if (answer.kind === "batch") {
    // what was claimed before has been settled by others, but for the claim that this one is ahead of
    one.claims = isAhead ? one.claims.slice(-1) : [];
    one.claims.push({ sequence: one.host.sequence, jobs: answer.jobs });
    one.lastClaim = { sequence: one.host.sequence, jobs: answer.jobs, isAhead };
    for (const job of answer.jobs) assert.ok(job.deadlineMs > answer.nowMs, `${job.id} started after its deadline`);
  } else if (answer.kind === "retired" || answer.kind === "not_yours") {
    one.ticket = "";
  } else if (answer.kind === "stale_sequence") {
    assert.equal(next, one.stood, "it was made for it unasked, and returned in its name since");
  } else {
    assert.ok(["empty", "uncommitted", ...(isAhead ? [] : ["defer"])].includes(answer.kind), answer.kind);
  }
}

const runError = { code: "run_failed", detail: "the run threw", retryable: true };

function outcomesOf(jobs: readonly HostJob[], kinds: readonly HostOutcome["outcome"][]): HostOutcome[] {
  return jobs.map(({ id, fence }, at) => {
    const outcome = kinds[at % kinds.length] as HostOutcome["outcome"];
    if (outcome === "succeeded") return { id, fence, outcome, outputs: Uint8Array.of(fence) };
    return { id, fence, outcome, error: runError, retryDelayMs: (at % 3) * 4 };
  });
}

const isRefused = (answer: string): boolean => answer === "stale" || answer === "ended" || answer === "barred";

const nat = fc.nat({ max: 9 });
const outcome = fc.constantFrom<HostOutcome["outcome"]>("succeeded", "failed", "retry", "back");

function moves(): fc.Arbitrary<fc.AsyncCommand<Walk, Place>>[] {
  const admit = fc
    .record({
      class: fc.constantFrom<JobClass>("standard", "batch"),
      timeoutMs: fc.constantFrom(6, 25, 60_000, 60_000, 60_000),
      maxAttempts: fc.integer({ min: 1, max: 3 }),
      items: fc.integer({ min: 1, max: 2 }),
      shapeClass: fc.constantFrom("a", "a", "b"),
      held: fc.boolean(),
      wait: fc.boolean(),
      latestStartMs: fc.nat({ max: 50 }),
      tenant: fc.constantFrom("a", "a", "b"),
      tenantWeight: fc.integer({ min: 1, max: 3 }),
      mostAhead: fc.constantFrom(0, 2, ...Array.from({ length: 6 }, () => Number.POSITIVE_INFINITY)),
    })
    .chain((wishes) => fc.tuple(fc.constant(wishes), fc.constantFrom(3, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)))
    .map(([wishes, mostWaiting]) => {
      return new Move(`admit(${wishes.class}, ${wishes.timeoutMs} ms, ${wishes.maxAttempts} attempts)`, async (walk, { rig }) => {
        const job = rig.job(wishes);
        const before = Object.values((await rig.audit()).order).flat().length;
        const admitted = await rig.store.admit(job, { matchingHosts, batchItems: 2, mostWaiting, isLight: false });
        count(walk.seen.answers, admitted.answer);
        if (admitted.answer === "admitted") walk.ids.push(job.id);
        else assert.equal(await rig.store.read(job.id), undefined, "who is not admitted leaves nothing behind");
        if (admitted.answer === "admitted") assert.ok(before < mostWaiting, "no job beside so many");
        if (admitted.answer === "refused") assert.ok(admitted.ahead > wishes.mostAhead);
      });
    });
  const figures = fc.record({
    maxItems: fc.integer({ min: 1, max: 4 }),
    lingerMs: fc.constantFrom(0, 5, 100),
    ladders: fc.constantFrom(new Map(), new Map([[0, ladder]])),
    overheadMs: fc.constantFrom(0, 2),
    delayMs: fc.constantFrom(0, 0, 0, 4),
  });
  const claims = fc.tuple(nat, nat, figures, fc.boolean()).map(([who, nth, wishes, mayBeAhead]) => {
    return new Move(`claim(${who % 2}, ${wishes.maxItems} items, linger ${wishes.lingerMs} ms)`, async (walk, { rig }) => {
      const one = pick(walk.actors, who) as Actor;
      const how = { ...wishes, isAhead: mayBeAhead && one.claims.length > 0 };
      if (await seat(walk, rig, one, nth)) await claim(walk.seen, one, how);
    });
  });
  const lingers = fc.constantFrom(0, 0, 5, 100);
  const commit = fc.tuple(nat, fc.array(outcome, { minLength: 1, maxLength: 3 }), fc.boolean(), lingers).map((drawn) => {
    const [who, kinds, partly, lingerMs] = drawn;
    return new Move(`commit(${who % 2}, ${kinds.join(" ")}${partly ? ", one only" : ""}, linger ${lingerMs} ms)`, async (walk, place) => {
      const one = pick(walk.actors, who) as Actor;
      const [held] = one.claims;
      const outcomes = outcomesOf(partly ? (held?.jobs.slice(0, 1) ?? []) : (held?.jobs ?? []), kinds);
      const ticket = one.ticket.replace("lost:", "");
      // without one for every other host, so that jobs are handed to some and others are woken
      const standing = who % 4 < 2 ? `${one.host.sequence + 1} ${one.host.hostId} 40 2 4 -` : "";
      if (standing !== "") one.stood = one.host.sequence + 1;
      const answers = await one.host.commit(ticket, outcomes, { lingerMs, standing });
      assert.equal(answers.length, outcomes.length);
      for (const answer of answers) count(walk.seen.answers, answer);
      if (held) held.jobs = held.jobs.slice(outcomes.length);
      one.claims = one.claims.filter(({ jobs }) => jobs.length > 0);
      one.lastCommit = { ticket, outcomes };
      // as it goes out with the next look, in one write
      if (lingerMs > 0 && one.ticket !== "") {
        await look(walk, place, "commit");
        await claim(walk.seen, one, { lingerMs, maxItems: 2, follows: true });
      }
    });
  });
  const repeatClaim = nat.map((who) => {
    return new Move(`repeat the last claim(${who % 2})`, async (walk) => {
      const one = pick(walk.actors, who) as Actor;
      if (!one.lastClaim || one.ticket === "" || one.ticket.startsWith("lost:")) return;
      const { isAhead, jobs, sequence } = one.lastClaim;
      const answer = await one.host.claim(one.ticket, { sequence, maxItems: 2, busyMs: 40, lingerMs: 20, isAhead });
      count(walk.seen.answers, `again: ${answer.kind}`);
      if (answer.kind === "batch") {
        const known = new Map(jobs.map(({ id, fence }) => [id, fence]));
        // all of its jobs may have been cancelled or expired: then the repeat is a new look
        const same = answer.jobs.every(({ id, fence }) => known.get(id) === fence);
        const others = answer.jobs.every(({ id, fence }) => known.get(id) !== fence);
        assert.ok(same || others, "the same batch or another, never both");
        const before = one.claims.filter((held) => held.sequence !== sequence);
        const alsoBefore = before
          .flatMap((held) => held.jobs)
          .filter(({ id, fence }) => answer.jobs.some((job) => job.id === id && job.fence === fence));
        assert.deepEqual(alsoBefore, [], "no job is in two claims");
        // nothing of it was committed, so it is not settled
        assert.ok(walk.last?.claims.some(({ incarnation }) => incarnation === one.host.incarnation));
        one.claims = [...before, { sequence, jobs: answer.jobs }];
      } else if (["retired", "not_yours"].includes(answer.kind)) one.ticket = "";
    });
  });
  const repeatCommit = nat.map((who) => {
    return new Move(`repeat the last commit(${who % 2})`, async (walk) => {
      const one = pick(walk.actors, who) as Actor;
      if (!one.lastCommit) return;
      for (const answer of await one.host.commit(one.lastCommit.ticket, one.lastCommit.outcomes)) assert.ok(isRefused(answer), answer);
    });
  });
  const cancel = nat.map((which) => {
    return new Move(`cancel(${which})`, async (walk, { rig }) => {
      const id = pick(walk.ids, which);
      if (id !== undefined) await rig.store.cancel(id);
    });
  });
  const expire = fc.tuple(nat, fc.boolean()).map(([which, wait]) => {
    return new Move(`expire(${which}${wait ? ", after waiting" : ""})`, async (walk, { rig }) => {
      const id = pick(walk.ids, which);
      if (id === undefined) return;
      const record = await rig.record(id);
      if (wait && record.deadlineMs - rig.store.nowMs() < 30) await clockPasses(rig.store, record.deadlineMs);
      const calledMs = rig.store.nowMs();
      await rig.store.expire([id]);
      const { state } = await rig.record(id);
      if (wait && record.deadlineMs < calledMs - 1) assert.ok(isTerminal(state), "no job is open after its deadline was called");
    });
  });
  const discard = nat.map((which) => {
    return new Move(`discard(${which})`, async (walk, { rig }) => {
      const id = pick(walk.last?.dead ?? [], which) ?? pick(walk.ids, which);
      if (id === undefined) return;
      count(walk.seen.answers, (await rig.store.discard(id)) ? "discarded" : "no dead letter");
      assert.equal(await rig.store.discard(id), false, "once");
    });
  });
  const keep = nat.map((which) => {
    return new Move(`keep(${which})`, async (walk, { rig }) => {
      const id = pick(walk.ids, which);
      if (id !== undefined) await rig.store.keep(id, 120_000);
    });
  });
  const die = nat.map((who) => {
    return new Move(`lose presence(${who % 2})`, async (walk, { rig }) => {
      const at = who % walk.actors.length;
      const [gone] = walk.actors.splice(at, 1, actor(rig, walk)) as [Actor];
      await rig.store.takeBack(rig.tag, gone.host.incarnation, matchingHosts - 1, 2).then(({ tickets }) => offer(rig, tickets));
      walk.zombies.push(gone);
    });
  });
  const zombie = fc.tuple(nat, outcome).map(([who, kind]) => {
    return new Move(`a zombie resumes(${who}, ${kind})`, async (walk) => {
      const gone = pick(walk.zombies, who);
      if (!gone) return;
      const ticket = gone.ticket.replace("lost:", "") || "none";
      assert.deepEqual(await gone.host.commit(ticket, outcomesOf(jobsOf(gone), [kind])), ["barred"]);
      const answers = [(await gone.host.claim(ticket)).kind, await gone.host.renew(ticket), await gone.host.take(ticket)];
      assert.deepEqual(answers, ["barred", "barred", "barred"]);
    });
  });
  const lostReply = fc.tuple(nat, fc.boolean()).map(([who, isOlder]) => {
    return new Move(`return an unknown claim(${who % 2})`, async (walk, { rig }) => {
      const one = pick(walk.actors, who) as Actor;
      const sequence = (isOlder ? one.claims[0]?.sequence : one.lastClaim?.sequence) ?? 1;
      const others = one.claims.filter((held) => held.sequence !== sequence).flatMap(({ jobs }) => jobs);
      const claimed = (audit: QueueAudit | undefined): string[] => {
        const own = audit?.claims.filter(({ incarnation }) => incarnation === one.host.incarnation) ?? [];
        const fences = new Map(own.flatMap(({ jobs }) => jobs).map(({ id, fence }) => [id, fence]));
        return others.filter(({ id, fence }) => fences.get(id) === fence).map(({ id }) => id);
      };
      await rig.store.returnClaim(rig.tag, one.host.incarnation, sequence);
      assert.deepEqual(claimed(await rig.audit()), claimed(walk.last), "jobs of another claim stay where they are");
      // its host may believe in it all the same: its commit will be refused
    });
  });
  const release = nat.map((who) => {
    return new Move(`release(${who % 2})`, async (walk, { rig }) => {
      const one = pick(walk.actors, who) as Actor;
      if (one.claims.length > 0) {
        await one.host.commit(one.ticket.replace("lost:", ""), outcomesOf(jobsOf(one), ["back"]));
        one.claims = [];
      }
      if (one.ticket !== "") offer(rig, await one.host.release(one.ticket.replace("lost:", ""), matchingHosts));
      one.ticket = "";
    });
  });
  // the longest for what was handed over and not begun
  const sweep = fc.constantFrom(0, 0, 0, 3, 3, 3, 3, 70).map((ms) => {
    return new Move(`sweep(after ${ms} ms)`, async ({ actors }, { rig }) => {
      if (ms > 0) await timePasses(rig, ms);
      const { tickets, nowMs } = await rig.store.sweep(
        rig.tag,
        matchingHosts,
        2,
        actors.map(({ host }) => host.incarnation),
      );
      offer(rig, tickets);
      checkLiveness(await rig.audit(), nowMs);
    });
  });
  // twice in the list: happens twice as often
  return [
    admit,
    admit,
    admit,
    claims,
    claims,
    claims,
    commit,
    commit,
    repeatClaim,
    repeatCommit,
    cancel,
    expire,
    keep,
    discard,
    die,
    zombie,
    lostReply,
    release,
    sweep,
  ];
}

function offer(rig: JobRig, tickets: readonly string[]): void {
  for (const ticketId of tickets) rig.offers.offer(rig.tag, ticketId);
}

async function walkAbout(open: () => Promise<JobRig>): Promise<Seen> {
  const seen: Seen = { steps: {}, transitions: {}, answers: {} };
  await fc.assert(
    fc.asyncProperty(fc.commands(moves(), { maxCommands: 2 * stepsPerRun, size: "max" }), async (commands) => {
      const rig = await open();
      const walk: Walk = { ids: [], actors: [], zombies: [], last: undefined, hostsMade: 0, seen };
      walk.actors.push(actor(rig, walk), actor(rig, walk));
      await fc.asyncModelRun(() => ({ model: walk, real: { rig } }), commands);
    }),
    { numRuns: runs, seed, endOnFailure: process.env.SWITCHYARD_FUZZ_SHRINK === undefined },
  );
  return seen;
}

const transitions = ["running", "cancelled", "expired"].map((to) => `queued → ${to}`);
transitions.push(...mayBecome.running.map((to) => `running → ${to}`));
const answers = [
  "admitted",
  "refused",
  "full",
  "batch",
  "defer",
  "empty",
  "uncommitted",
  "committed",
  "requeued",
  "failed",
  "stale",
  "ended",
];
answers.push("ahead: batch", "ahead: empty", "ahead: uncommitted", "again: batch", "again: stale_sequence", "discarded", "no dead letter");

/** Says what was seen; walks that saw too little have shown nothing. */
function report(name: string, seen: Seen, startMs: number): void {
  const total = Object.values(seen.steps).reduce((sum, times) => sum + times, 0);
  console.log(`${name}: ${runs} walks, ${total} steps in ${((performance.now() - startMs) / 1_000).toFixed(1)} s, seed ${seed}`);
  if (process.env.SWITCHYARD_FUZZ_RUNS) console.log(JSON.stringify(seen));
  assert.ok(total > runs * 20, "the walks were too short to see anything");
  assert.equal(Object.keys(seen.steps).length, 14, `moves: ${JSON.stringify(seen.steps)}`);
  for (const one of transitions) assert.ok(seen.transitions[one], `never seen: ${one} among ${JSON.stringify(seen.transitions)}`);
  for (const one of answers) assert.ok(seen.answers[one], `never answered: ${one} among ${JSON.stringify(seen.answers)}`);
}

// one waits for a server and a clock while the other computes
describe("random walks", { concurrency: 2 }, () => {
  test("no order of steps breaks the protocol on Redis", async () => {
    const startMs = performance.now();
    const seen = await walkAbout(async () => {
      await rigs.redis.flushdb();
      return rigs.rig();
    });
    report("Redis store", seen, startMs);
  });

  test("no order of steps breaks the memory store", async () => {
    const startMs = performance.now();
    const seen = await walkAbout(async () => memoryRig());
    report("memory store", seen, startMs);
  });
});
