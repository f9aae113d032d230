/** Who hears of which changes, and when: with a clock that the test moves. */

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type HostView, SwitchyardError, type TensorSignature } from "@switchyard/protocol";
import { type Caller, localCaller } from "../../coordinator/src/application/caller.ts";
import { allLists, type ChangeEvent, Changes, type Subscription } from "../../coordinator/src/doors/mcp/changes.ts";
import { resourceUris } from "../../coordinator/src/doors/mcp/resource-uris.ts";
import type { ModelStatus } from "../../coordinator/src/ports/model-registry.ts";
import { fakeModels } from "../support/fake-job-service.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { fakeDoorParts } from "../support/open-door.ts";
import { OwnedJobs } from "../support/owned-jobs.ts";

const anna: Caller = { ...localCaller, tenant: "anna", keyId: "anna-1" };
const berta: Caller = { ...localCaller, tenant: "berta", keyId: "berta-1" };
const request = { inputs: [], parameters: {}, binaryDefault: false };
const submission = { model: "tiny", version: 1, request, hold: false };
const image: TensorSignature = { name: "image", datatype: "FP32", shape: [-1, 4] };

function rig(t: TestContext) {
  const clock = new ManualClock();
  const { logged, models, parts } = fakeDoorParts({}, { clock });
  const statuses = models.list() as ModelStatus[];
  const hosts = [...parts.hosts.list()] as HostView[];
  const jobs = new OwnedJobs(models);
  const figures = { now: { queued: 0 }, asked: 0 };
  const overview = {
    view: async () => {
      figures.asked++;
      const { view } = await parts.overview.view(localCaller);
      return { view: { ...view, now: { ...view.now, ...figures.now } }, lastSlot: 0 };
    },
  } as unknown as typeof parts.overview;
  const context = { ...parts, jobs, overview, hosts: { list: () => hosts, matching: () => 1 } };
  const changes = new Changes({ context });
  t.after(() => changes.close());
  const listen = (caller: Caller = localCaller, how: { isAllowed?: () => boolean; lists?: typeof allLists } = {}) => {
    const heard: ChangeEvent[] = [];
    const state = { isEnded: false };
    const subscription: Subscription = changes.open({
      caller,
      isAllowed: how.isAllowed ?? (() => true),
      lists: how.lists ?? allLists,
      tell: (event) => void heard.push(event),
      end: () => {
        state.isEnded = true;
      },
    });
    const take = (): string[] => heard.splice(0).map((event) => (event.kind === "resource_updated" ? event.uri : event.kind));
    return { subscription, take, state };
  };
  const addModel = (model: string): (() => void) => {
    const [status] = fakeModels([{ model, version: 1, signature: { inputs: [image], outputs: [image] } }]).list();
    statuses.push(status!);
    return () => void statuses.splice(statuses.indexOf(status!), 1);
  };
  return { addModel, changes, clock, figures, hosts, jobs, listen, logged, models, statuses };
}

test("a list is told to have changed when the difference lasts, once", async (t) => {
  const { addModel, clock, listen } = rig(t);
  const { take } = listen();
  await clock.advance(5_000);
  assert.deepEqual(take(), []);
  addModel("newcomer");
  await clock.advance(1_000);
  assert.deepEqual(take(), []);
  await clock.advance(1_000);
  assert.deepEqual(take().sort(), ["resources_list_changed", "tools_list_changed"]);
  await clock.advance(10_000);
  assert.deepEqual(take(), []);
});

test("what comes and goes within a second is not told, nor is a host that is busy, lost or back", async (t) => {
  const { addModel, clock, hosts, listen, statuses } = rig(t);
  const { take } = listen();
  const leave = addModel("passing");
  await clock.advance(1_000);
  leave();
  const [host] = hosts;
  for (const state of ["lost", "ready", "draining", "ready"] as const) {
    hosts[0] = { ...host!, state, heartbeat_age_ms: 3_000, warm: [] };
    await clock.advance(2_000);
  }
  statuses[0] = { ...statuses[0]!, state: "available", warmOn: [] };
  await clock.advance(5_000);
  assert.deepEqual(take(), []);
  hosts.push({ ...host!, id: "host-2" });
  await clock.advance(2_000);
  assert.deepEqual(take(), ["resources_list_changed"]);
  statuses[0] = { ...statuses[0]!, state: "unloaded" }; // an older version, of which no tool is made
  await clock.advance(2_000);
  assert.deepEqual(take(), []);
  statuses[1] = { ...statuses[1]!, state: "unloaded" };
  await clock.advance(2_000);
  assert.deepEqual(take(), ["tools_list_changed"]);
});

test("tools are told to have changed when their model's alias moves to another version, and not by the chance of a split", async (t) => {
  const { clock, listen, models, statuses } = rig(t);
  const { take } = listen();
  const [first, second] = statuses;
  let looks = 0;
  models.resolve = () => (++looks % 3 === 0 ? first! : second!); // a canary
  await clock.advance(5_000);
  assert.deepEqual(take(), []);
  const { usual } = models;
  models.usual = (model) => (model === "tiny" ? first! : usual.call(models, model));
  await clock.advance(2_000);
  assert.deepEqual(take(), ["tools_list_changed"]);
});

test("while nobody listens nothing is looked at, and afterwards neither", async (t) => {
  const { clock, figures, jobs, listen } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  assert.equal(clock.waiting, 0);
  const { subscription } = listen(anna);
  await subscription.follow(resourceUris.job(record.id));
  await subscription.follow(resourceUris.metrics);
  await clock.advance(3_000);
  assert.ok(clock.waiting > 0);
  const { asked } = figures;
  assert.ok(asked > 0);
  subscription.close();
  assert.equal(clock.waiting, 0);
  await clock.advance(10_000);
  assert.equal(figures.asked, asked);
});

test("a subscriber hears of those lists alone that it wants to hear of", async (t) => {
  const { addModel, clock, hosts, listen } = rig(t);
  const tools = listen(anna, { lists: new Set(["tools_list_changed"]) });
  const none = listen(anna, { lists: new Set() });
  addModel("newcomer");
  hosts.push({ ...hosts[0]!, id: "host-2" });
  await clock.advance(3_000);
  assert.deepEqual([tools.take(), none.take()], [["tools_list_changed"], []]);
});

test("a job's follower hears of each change of its state, those within a quarter of a second as one", async (t) => {
  const { clock, jobs, listen } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  const uri = resourceUris.job(record.id);
  const { subscription, take } = listen(anna);
  await subscription.follow(uri);
  await clock.advance(5_000);
  assert.deepEqual(take(), []);
  jobs.start(record.id);
  await clock.advance(0);
  assert.deepEqual(take(), [uri]);
  for (let times = 0; times < 4; times++) {
    jobs.start(record.id);
    await clock.advance(50);
  }
  assert.deepEqual(take(), []);
  await clock.advance(50);
  assert.deepEqual(take(), [uri]);
  jobs.end(record.id, "succeeded");
  await clock.advance(250);
  assert.deepEqual(take(), [uri]);
  await clock.advance(60_000);
  assert.deepEqual(take(), []);
});

test("a job's output is told once: when the job has ended", async (t) => {
  const { clock, jobs, listen } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  const uri = resourceUris.output(record.id);
  const { subscription, take } = listen(anna);
  await subscription.follow(uri);
  jobs.start(record.id);
  await clock.advance(300);
  assert.deepEqual(take(), []);
  jobs.end(record.id, "succeeded");
  await clock.advance(300);
  assert.deepEqual(take(), [uri]);
});

test("nobody follows a job that is not theirs, nor hears of it while its owner follows it", async (t) => {
  const { clock, jobs, listen } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  const uri = resourceUris.job(record.id);
  const owner = listen(anna);
  const other = listen(berta);
  await owner.subscription.follow(uri);
  const { get } = jobs;
  const answered = Promise.withResolvers<void>();
  jobs.get = async (id, caller) => {
    await answered.promise;
    return get.call(jobs, id, caller);
  };
  const refused = other.subscription.follow(uri);
  jobs.start(record.id);
  await clock.advance(300); // while it is not known yet whether berta may
  assert.deepEqual([owner.take(), other.take()], [[uri], []]);
  answered.resolve();
  await assert.rejects(refused, { code: "job_not_found" });
  jobs.start(record.id);
  await clock.advance(2_000);
  assert.ok(owner.take().length > 0);
  assert.deepEqual(other.take(), []);
});

/** Tells how often jobs were waited for since. */
function waitsOn(jobs: OwnedJobs): () => number {
  let count = 0;
  const { wait } = jobs;
  jobs.wait = (id, how, caller) => {
    count++;
    return wait.call(jobs, id, how, caller);
  };
  return () => count;
}

test("one watch serves all who follow a resource, until the last leaves", async (t) => {
  const { clock, jobs, listen } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  const uri = resourceUris.job(record.id);
  const waits = waitsOn(jobs);
  const one = listen(anna);
  const two = listen(anna);
  await one.subscription.follow(uri);
  await one.subscription.follow(uri);
  await two.subscription.follow(uri);
  assert.equal(waits(), 1);
  one.subscription.unfollow(uri);
  jobs.start(record.id);
  await clock.advance(300);
  assert.deepEqual(one.take(), []);
  assert.deepEqual(two.take(), [uri]);
  two.subscription.unfollow(uri);
  jobs.end(record.id, "succeeded");
  await clock.advance(300);
  assert.deepEqual(two.take(), []);
});

test("one resource has one watch however its address is spelt, and is told as each spelt it", async (t) => {
  const { clock, jobs, listen } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  const uri = resourceUris.job(record.id);
  const other = uri.replace("jobs", "%6Aobs");
  const waits = waitsOn(jobs);
  const both = listen(anna);
  const one = listen(anna);
  for (const spelling of [uri, other]) await both.subscription.follow(spelling);
  await one.subscription.follow(other);
  assert.equal(waits(), 1);
  jobs.start(record.id);
  await clock.advance(300);
  assert.deepEqual([both.take().sort(), one.take()], [[other, uri].sort(), [other]]);
  both.subscription.unfollow(uri);
  jobs.end(record.id, "succeeded");
  await clock.advance(300);
  assert.deepEqual([both.take(), one.take()], [[other], [other]]);
});

test("metrics and queues are told once a second at most, and only when a figure differs", async (t) => {
  const { clock, figures, listen } = rig(t);
  const { subscription, take } = listen();
  await subscription.follow(resourceUris.metrics);
  await clock.advance(5_000);
  assert.deepEqual(take(), []);
  for (let times = 0; times < 20; times++) {
    figures.now.queued++;
    await clock.advance(100);
  }
  assert.deepEqual(take(), [resourceUris.metrics, resourceUris.metrics]);
  await clock.advance(5_000);
  assert.deepEqual(take(), []);
});

test("models and hosts are told when what is shown of them changes, not with every beat", async (t) => {
  const { clock, hosts, listen, statuses } = rig(t);
  const { subscription, take } = listen();
  const tiny = resourceUris.model("tiny");
  const host = resourceUris.host("host-1");
  for (const uri of [tiny, resourceUris.version("tiny", 1), resourceUris.model("pair"), host]) await subscription.follow(uri);
  await assert.rejects(subscription.follow(resourceUris.model("nothing")), { code: "model_not_found" });
  await assert.rejects(subscription.follow(resourceUris.host("nothing")), { code: "host_not_found" });
  await assert.rejects(subscription.follow("switchyard://nothing"), { code: "not_found" });
  const reader = listen({ ...anna, scopes: new Set(["read"]), models: new Set(["pair"]) });
  await assert.rejects(reader.subscription.follow(host), { code: "forbidden" });
  await assert.rejects(reader.subscription.follow(tiny), { code: "forbidden" });
  hosts[0] = { ...hosts[0]!, heartbeat_age_ms: 900 };
  await clock.advance(2_000);
  assert.deepEqual(take(), []);
  const second = statuses.findIndex(({ version }) => version.model === "tiny" && version.version === 2);
  statuses[second] = { ...statuses[second]!, state: "available", warmOn: [] };
  hosts[0] = { ...hosts[0]!, state: "draining" };
  await clock.advance(1_000);
  assert.deepEqual(take().sort(), [host, tiny].sort());
});

test("a subscription ends with its key, at the next second at latest, and hears nothing more", async (t) => {
  const { clock, jobs, listen } = rig(t);
  let isAllowed = true;
  const one = listen(anna, { isAllowed: () => isAllowed });
  const two = listen(anna, { isAllowed: () => isAllowed });
  const { record } = await jobs.submit(submission, anna);
  await one.subscription.follow(resourceUris.job(record.id));
  isAllowed = false;
  jobs.start(record.id);
  await clock.advance(10);
  assert.deepEqual([one.take(), one.state.isEnded, two.state.isEnded], [[], true, false]);
  await clock.advance(1_000);
  assert.deepEqual([two.take(), two.state.isEnded], [[], true]);
  assert.equal(clock.waiting, 0);
});

test("a store that is away ends no watch; a job that is gone ends its own, and is told", async (t) => {
  const { clock, jobs, listen, logged } = rig(t);
  const { record } = await jobs.submit(submission, anna);
  const uri = resourceUris.job(record.id);
  const { subscription, take } = listen(anna);
  const { wait } = jobs;
  let failure: SwitchyardError | undefined = new SwitchyardError("store_unavailable", "the store does not answer");
  jobs.wait = (id, how, caller) => (failure ? Promise.reject(failure) : wait.call(jobs, id, how, caller));
  await subscription.follow(uri);
  await clock.advance(3_000);
  jobs.start(record.id);
  failure = undefined;
  await clock.advance(1_000);
  assert.deepEqual(take(), [uri]);
  failure = new SwitchyardError("result_expired", "its record is no longer kept");
  jobs.start(record.id);
  await clock.advance(1_000);
  assert.deepEqual(take(), [uri]);
  assert.deepEqual(logged, []);
});

test("one caller has two hundred subscriptions at most, and one subscription a hundred resources", async (t) => {
  const { jobs, listen } = rig(t);
  const first = listen(anna);
  for (let count = 1; count < 200; count++) listen(anna);
  assert.throws(() => listen(anna), { code: "rate_limited" });
  listen(berta);
  for (let count = 0; count < 100; count++) {
    await first.subscription.follow(resourceUris.job((await jobs.submit(submission, anna)).record.id));
  }
  await assert.rejects(first.subscription.follow(resourceUris.metrics), { code: "rate_limited" });
  first.subscription.close();
  listen(anna);
});

test("one tenant's keys cannot take all subscriptions and all watched jobs: the next tenant finds room", async (t) => {
  const { jobs, listen } = rig(t);
  const greedy = (key: number): Caller => ({ ...anna, keyId: `anna-${key}` });
  const job = async (caller: Caller) => resourceUris.job((await jobs.submit(submission, caller)).record.id);
  let followed = 0;
  let refused: unknown;
  for (let key = 0; refused === undefined && key < 100; key++) {
    const { subscription } = listen(greedy(key));
    for (let count = 0; refused === undefined && count < 100; count++) {
      await subscription.follow(await job(greedy(key))).then(
        () => followed++,
        (why: unknown) => {
          refused = why;
        },
      );
    }
  }
  assert.equal((refused as SwitchyardError).code, "rate_limited");
  assert.equal(followed, 2_500);
  const other = listen(berta);
  await other.subscription.follow(await job(berta));
  const open = (): void => {
    for (let key = 0; ; key++) for (let count = 0; count < 100; count++) listen(greedy(1_000 + key));
  };
  assert.throws(open, { code: "rate_limited", message: /share of the 2048/ });
  listen(berta);
});

test("a coordinator that ends tells its subscribers that nothing follows", (t) => {
  const { changes, clock, listen } = rig(t);
  const { state } = listen();
  changes.close();
  assert.equal(state.isEnded, true);
  assert.equal(clock.waiting, 0);
  assert.throws(() => listen(), { code: "draining" });
});
