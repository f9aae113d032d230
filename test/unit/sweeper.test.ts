/** What the sweeper tells of queues whose version goes while it looks, and what it does beside its sweeps. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Sweeper } from "../../coordinator/src/application/sweeper.ts";

/** When the sweepers begin, by the store's clock. */
const begunMs = 1_000_000;

/** A store that asks before it answers a sweep, and a registry that forgets versions when the test says so. */
function rig(tags: readonly string[]) {
  const known = new Set(tags);
  const told: string[] = [];
  const lost: string[] = [];
  let waiting = 3;
  let isIndexed = true;
  let onSweep = (_tag: string): void => {};
  const asked: string[][] = [];
  let served: string[] = [];
  let onLook = async (): Promise<void> => {};
  const silent = new Set<string>();
  const takenBack: string[] = [];
  const claims: { incarnation: string; sequence: number }[] = [];
  const returned: string[] = [];
  const hosts: object[] = [];
  /** What sweeps say of jobs that were handed over, one after the other. */
  const doubted: number[] = [];
  const comesBack: number[] = [];
  const slept: number[] = [];
  const remembered = new Set<string>();
  const keeping = new Set<string>();
  const over: string[] = [];
  const versionOf = (tag: string) => (known.has(tag) ? { model: "digits", version: 1, tag } : undefined);
  const sweeper = new Sweeper({
    clock: {
      sleep: async (ms) => {
        slept.push(ms);
      },
    },
    store: {
      nowMs: () => begunMs,
      rememberQueue: async (tag: string) => void remembered.add(tag),
      openQueues: async (some: string[]) => {
        asked.push([...some]);
        if (some.some((tag) => silent.has(tag))) throw new Error("its slot is not served");
        return [];
      },
      takeBack: async (_tag: string, incarnation: string) => {
        takenBack.push(incarnation);
        return { returned: 0, failed: 0, tickets: [] };
      },
      returnClaim: async (tag: string, incarnation: string, sequence: number) => {
        returned.push(`${tag} ${incarnation} ${sequence}`);
        return 1;
      },
      knownQueues: async () => [...remembered],
      forgetQueue: async () => {},
      keepingEnded: async (some: string[]) => some.filter((tag) => keeping.has(tag)),
      sweep: async (tag: string) => {
        onSweep(tag);
        return {
          tickets: [],
          claims: [...claims],
          returned: comesBack.shift() ?? 0,
          doubted: doubted.shift() ?? 0,
          toForget: keeping.has(tag),
          figures: { waiting, running: 0, oldestMs: 10, dead: 1 },
        };
      },
    } as never,
    hosts: {
      refresh: () => onLook(),
      snapshots: () => [{ view: {}, subscribed: served }, ...hosts],
      warm: () => 0,
      matching: () => 0,
      takers: () => [],
      spare: () => [],
    } as never,
    models: {
      versionOf,
      byTag: (tag: string) => (known.has(tag) ? { version: versionOf(tag) } : undefined),
      tags: () => [...known],
      abandoned: () => [],
      indexed: () => isIndexed,
      forgetChoosy: async () => false,
    } as never,
    tickets: {} as never,
    metrics: {
      queueFigures: ({ tag }: { tag: string }) => void told.push(`figures ${tag}`),
      queueGone: (tag: string) => void told.push(`gone ${tag}`),
      hostLost: () => void lost.push("counted"),
      jobsReturned: (why: string, jobs: number) => void told.push(`${jobs} returned, ${why}`),
    } as never,
    log: { warn: (_event: string, { incarnation }: { incarnation: string }) => void lost.push(incarnation) } as never,
    onOver: (tag) => void over.push(tag),
  });
  return {
    claims,
    comesBack,
    doubted,
    hosts,
    known,
    keeping,
    over: () => over.splice(0),
    remembered,
    returned,
    silent,
    slept,
    takenBack,
    sweeper,
    told: () => told.splice(0),
    lost: () => lost.splice(0),
    index: (tags: readonly string[]) => {
      isIndexed = true;
      for (const tag of tags) known.add(tag);
    },
    unindexed: () => {
      isIndexed = false;
    },
    asked: () => asked.splice(0).filter((some) => some.length > 0),
    serve: (some: string[]) => {
      served = some;
    },
    duringLooks: (act: () => Promise<void>) => {
      onLook = act;
    },
    empty: () => {
      waiting = 0;
    },
    duringSweeps: (act: (tag: string) => void) => {
      onSweep = act;
    },
  };
}

test("a queue whose version goes while it is swept is told to be gone, once, and its figures are not told again", async () => {
  const { duringSweeps, known, sweeper, told } = rig(["one", "two"]);
  sweeper.noteOpen("one");
  sweeper.noteOpen("two");
  await sweeper.round();
  assert.deepEqual(told(), ["figures one", "figures two"]);
  duringSweeps(() => known.delete("one"));
  await sweeper.round();
  assert.deepEqual(told(), ["figures two", "gone one"]);
  await sweeper.round();
  assert.deepEqual(told(), ["figures two"], "though its jobs still wait");
});

test("a queue without open jobs, of which dead letters were told last, is told to be gone too", async () => {
  const { empty, known, sweeper, told } = rig(["one"]);
  sweeper.noteOpen("one");
  empty();
  await sweeper.round();
  assert.deepEqual([told(), sweeper.openTags()], [["figures one"], []]);
  known.delete("one");
  await sweeper.round();
  assert.deepEqual(told(), ["gone one"]);
});

test("queues that hosts serve are asked with the hosts, and those that they serve since are asked in the same round", async () => {
  const { asked, duringLooks, serve, sweeper } = rig([]);
  serve(["one"]);
  await sweeper.round(); // the first is a full one
  assert.deepEqual(asked(), []);
  const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
  duringLooks(() => answered);
  const round = sweeper.round();
  await Promise.resolve();
  assert.deepEqual(asked(), [["one"]], "before the store has answered anything");
  serve(["two", "one"]);
  answer();
  await round;
  assert.deepEqual(asked(), [["two"]]);
});

test("what a dead host had in hand goes back while a queue of another cannot be asked", async () => {
  const { hosts, serve, silent, sweeper, takenBack } = rig(["one", "two"]);
  await sweeper.round(); // the first is a full one
  serve(["two"]);
  silent.add("two");
  hosts.push({ incarnation: "dead", claims: [], subscribed: ["one"], loaded: {}, view: { state: "lost", models: [] } });
  await assert.rejects(sweeper.round(), /not served/);
  assert.deepEqual(takenBack, ["dead"]);
});

test("hosts that were lost before a coordinator began are repaired and not counted again, and neither are those that said goodbye", async () => {
  const { hosts, lost, sweeper, takenBack } = rig(["one"]);
  const lostHost = (incarnation: string, more: object) =>
    hosts.push({ incarnation, claims: ["one=1"], subscribed: [], loaded: {}, view: { state: "lost", id: "h" }, hasLeft: false, ...more });
  lostHost("before", { lostMs: begunMs - 1 });
  lostHost("since", { lostMs: begunMs });
  lostHost("by this look", { lostMs: undefined });
  lostHost("left", { lostMs: begunMs + 1, hasLeft: true });
  await sweeper.round();
  assert.deepEqual(takenBack, ["before", "since", "by this look", "left"]);
  assert.deepEqual(lost(), ["counted", "since", "counted", "by this look"]);
  lostHost("later", { lostMs: begunMs + 5_000 });
  await sweeper.round();
  await sweeper.round();
  assert.deepEqual([takenBack.length, lost()], [5, ["counted", "later"]]);
});

test("figures that could not be told, because no version was known yet, are told in the first round that knows them", async () => {
  const { empty, index, sweeper, told, unindexed } = rig([]);
  unindexed();
  empty(); // of open jobs: its dead letters stay
  sweeper.noteOpen("one");
  sweeper.noteOpen("of a model that is gone");
  await sweeper.round();
  assert.deepEqual([told(), sweeper.openTags()], [[], []]);
  await sweeper.round();
  assert.deepEqual(told(), []);
  index(["one"]);
  await sweeper.round();
  assert.deepEqual(told(), ["figures one"]);
  await sweeper.round();
  assert.deepEqual([told(), sweeper.openTags()], [[], []], "and then as ever");
});

test("a claim whose host does not tell of it for three seconds goes back, however many others come and go meanwhile", async () => {
  const { claims, hosts, returned, sweeper } = rig(["one"]);
  const view = { state: "ready", heartbeat_age_ms: 100, models: [] };
  hosts.push({ incarnation: "a", claims: ["one=8"], subscribed: ["one"], loaded: {}, view });
  sweeper.noteOpen("one");
  const lost = [
    { incarnation: "a", sequence: 7 },
    { incarnation: "a", sequence: 8 },
  ];
  for (let sweep = 1; sweep <= 13; sweep++) {
    assert.deepEqual(returned, [], `sweep ${sweep}`);
    const passing = Array.from({ length: 1_500 }, (_, at) => ({ incarnation: "a", sequence: 1_500 * sweep + at }));
    claims.splice(0, claims.length, ...lost, ...passing);
    await sweeper.round();
  }
  assert.deepEqual(returned, ["one a 7"]);
});

test("a host that is late with its beat is waited for, and a claim that it tells of in between is counted anew", async () => {
  const { claims, hosts, returned, sweeper } = rig(["one"]);
  const host = {
    incarnation: "a",
    claims: [] as string[],
    subscribed: ["one"],
    loaded: {},
    view: { state: "ready", heartbeat_age_ms: 100, models: [] },
  };
  hosts.push(host);
  sweeper.noteOpen("one");
  claims.push({ incarnation: "a", sequence: 7 });
  const sweep = async (times: number): Promise<void> => {
    for (let count = 0; count < times; count++) await sweeper.round();
  };
  await sweep(10);
  host.view.heartbeat_age_ms = 2_000;
  await sweep(20);
  host.view.heartbeat_age_ms = 100;
  await sweep(2);
  assert.deepEqual(returned, []);
  host.claims.push("one=7");
  await sweep(1);
  host.claims.pop();
  await sweep(12);
  assert.deepEqual(returned, []);
  await sweep(1);
  assert.deepEqual(returned, ["one a 7"]);
});

test("where a job that was handed over is late it is looked at again at once, and what came back is counted", async () => {
  const { comesBack, doubted, duringSweeps, slept, sweeper, told } = rig(["one"]);
  sweeper.noteOpen("one");
  const swept: string[] = [];
  duringSweeps((tag) => swept.push(tag));
  doubted.push(1, 0);
  comesBack.push(0, 1);
  await sweeper.round();
  assert.deepEqual([swept, slept, told()], [["one", "one"], [30], ["1 returned, handed_late", "figures one"]]);
  await sweeper.round();
  assert.deepEqual([swept.length, slept.length], [3, 1], "and then as ever");
});

test("a queue in which jobs that ended together are over is told of, by a sweep or each ten seconds, of a model that is gone as well", async () => {
  const { empty, keeping, over, remembered, sweeper } = rig(["one"]);
  sweeper.noteOpen("one");
  await sweeper.round(); // the first is a full one
  assert.deepEqual(over(), []);
  keeping.add("one");
  await sweeper.round();
  assert.deepEqual(over(), ["one"]);
  empty();
  await sweeper.round();
  keeping.delete("one");
  keeping.add("of a model that is gone");
  remembered.add("of a model that is gone");
  over();
  for (let rounds = 3; rounds < 44; rounds++) await sweeper.round();
  assert.deepEqual(over(), []);
  await sweeper.round();
  assert.deepEqual(over(), ["of a model that is gone"]);
});

test("a queue that another coordinator has forgotten is remembered again while it is open, keeps what ended, or is open again", async () => {
  const { empty, keeping, known, over, remembered, sweeper } = rig(["one"]);
  const tenSeconds = async (): Promise<void> => {
    for (let rounds = 0; rounds < 44; rounds++) await sweeper.round();
  };
  sweeper.noteOpen("one");
  remembered.clear();
  await tenSeconds();
  assert.deepEqual([...remembered], ["one"]);
  empty();
  await sweeper.round();
  assert.deepEqual(sweeper.openTags(), []);
  known.delete("one");
  remembered.clear();
  keeping.add("one");
  await tenSeconds();
  assert.deepEqual([[...remembered], over().includes("one")], [["one"], true]);
  keeping.clear();
  remembered.clear();
  await tenSeconds();
  assert.deepEqual([...remembered], [], "nothing of it is left");
  sweeper.remember("one");
  assert.deepEqual([...remembered], ["one"]);
});
