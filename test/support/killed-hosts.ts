/**
 * Workers that are killed without warning while they run, under load: how soon what they had in hand is back, and whether every acknowledged
 * job reached one outcome, the right one. Throws when one did not.
 */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { isTerminal, type JobView } from "@switchyard/protocol";
import { keys, queueTag } from "@switchyard/protocol/redis";
import { Redis } from "ioredis";
import { call, jobView } from "./calls.ts";
import { type Processes, startProcesses } from "./processes.ts";
import { Pulse } from "./pulse.ts";
import { directRun, distance, emptyRepository, layersModel, rowsOf } from "./timed-models.ts";
import { until } from "./until.ts";

const graph = layersModel(200);
const rows = rowsOf(16);

function inputsOf(index: number) {
  return [{ name: "x", datatype: "FP32", shape: [1, 32], data: [...rows[index]!] }];
}

function assertRight(data: number[], expected: Float32Array | undefined): void {
  const off = distance(data, expected!);
  assert.ok(off < 1e-4, `a result is off by ${off}`);
}

/** Clients at work: some hold the line, some submit and come back for the result. Counts what was acknowledged. */
class Load {
  readonly submitted: { id: string; index: number }[] = [];
  /** Answers that were waited for. */
  held = 0;
  readonly expected: readonly Float32Array[];
  #over = false;
  readonly #failures: unknown[] = [];
  readonly #clients: Promise<void>[];
  readonly #pauseMs: number;

  constructor(url: string, clients: { holding: number; submitting: number; expected: readonly Float32Array[]; pauseMs: number }) {
    this.expected = clients.expected;
    this.#pauseMs = clients.pauseMs;
    const started = [
      ...Array.from({ length: clients.holding }, (_, client) => this.#hold(url, client)),
      ...Array.from({ length: clients.submitting }, (_, client) => this.#submit(url, client)),
    ];
    this.#clients = started.map((client) => client.catch((error: unknown) => void this.#failures.push(error)));
  }

  async #hold(url: string, client: number): Promise<void> {
    for (let turn = 0; !this.#over; turn++) {
      const index = (client + turn) % rows.length;
      const answer = await call(`${url}/v2/models/layers/infer`, { body: { inputs: inputsOf(index) } });
      assert.equal(answer.status, 200, answer.bytes.toString());
      assertRight(answer.json().outputs[0].data, this.expected[index]);
      this.held++;
      await sleep(this.#pauseMs);
    }
  }

  async #submit(url: string, client: number): Promise<void> {
    for (let turn = 0; !this.#over; turn++) {
      const index = (3 * client + turn) % rows.length;
      const answer = await call(`${url}/v1/jobs`, { body: { model: "layers", inputs: inputsOf(index), tags: { sent: "submitted" } } });
      assert.equal(answer.status, 202, answer.bytes.toString());
      const { id } = answer.json();
      this.submitted.push({ id, index });
      await until(`job ${id} to end`, async () => isTerminal((await jobView(url, id, 10)).state), { withinMs: 60_000 });
      await sleep(this.#pauseMs);
    }
  }

  async end(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#clients);
    if (this.#failures.length > 0) throw this.#failures[0];
  }
}

async function viewOf(url: string, id: string): Promise<JobView> {
  const view = await jobView(url, id, 30);
  assert.equal(view.state, "succeeded", JSON.stringify(view));
  return view;
}

/** Each has one outcome that stays, the right one, and nothing exists that nobody asked for. */
async function checkSubmitted(url: string, load: Load): Promise<void> {
  assert.equal(new Set(load.submitted.map(({ id }) => id)).size, load.submitted.length, "two submissions got one id");
  const first = await Promise.all(load.submitted.map(({ id }) => viewOf(url, id)));
  for (const { id, index } of load.submitted) {
    const result = await call(`${url}/v1/jobs/${id}/result`);
    assert.equal(result.status, 200, result.bytes.toString());
    assertRight(result.json().outputs[0].data, load.expected[index]);
  }
  const again = await Promise.all(load.submitted.map(({ id }) => viewOf(url, id)));
  assert.deepEqual(again, first);
  const listed = new Set<string>();
  for (let next: string | undefined = "/v1/jobs?model=layers&limit=200"; next; ) {
    const page = (await call(`${url}${next}`)).json() as { items: JobView[]; links: { next?: string } };
    for (const { id, tags } of page.items) if (tags?.sent === "submitted") listed.add(id);
    next = page.links.next;
  }
  const sent = new Set(load.submitted.map(({ id }) => id));
  assert.deepEqual([...listed.symmetricDifference(sent)], []);
}

export interface Loss {
  /** Jobs that the killed host had in hand. */
  jobs: number;
  /** From the kill until all of them waited again, or ran elsewhere, or had ended. */
  backMs: number;
  /** From the kill until the last of them was claimed again or had ended. */
  claimedMs: number;
}

class Killer {
  readonly #cluster: Processes;
  readonly #redis: Redis;
  readonly #base: string;
  readonly #lookMs: number;
  readonly #pulse: Pulse;
  /** Jobs that a killed host had in hand: a job that took three down is given up, and no test may bring that about by chance. */
  readonly #hit = new Set<string>();

  constructor(parts: { cluster: Processes; redis: Redis; base: string; lookMs: number; pulse: Pulse }) {
    this.#cluster = parts.cluster;
    this.#redis = parts.redis;
    this.#base = parts.base;
    this.#lookMs = parts.lookMs;
    this.#pulse = parts.pulse;
  }

  /** Kills a host, starts it again, and follows the jobs that it had in hand. */
  async kill(which: number): Promise<{ respawned: Promise<void>; loss: Promise<Loss> }> {
    const worker = this.#cluster.workers[which]!;
    const { incarnation } = worker;
    await until("a claim of jobs that were not hit before", async () => {
      const ids = await this.#inHand(incarnation);
      return ids.length > 0 && ids.every((id) => !this.#hit.has(id));
    });
    await worker.kill();
    const killedMs = Date.now();
    const revisions = new Map<string, number>();
    for (const id of await this.#inHand(incarnation)) {
      revisions.set(id, (await this.#look(id)).revision);
      this.#hit.add(id);
    }
    const loss = this.#follow(revisions, killedMs);
    loss.catch(() => {}); // looked at in the end
    return { respawned: sleep(300).then(() => worker.respawn()), loss };
  }

  async #inHand(incarnation: string): Promise<string[]> {
    const claim = (await this.#redis.hget(`${this.#base}claims`, incarnation)) ?? "";
    return [...claim.matchAll(/ ([\w-]+)=\d+/g)].map(([, id]) => id!);
  }

  async #look(id: string): Promise<{ revision: number; state: string }> {
    const answer = await call(`${this.#cluster.url}/v1/jobs/${id}`);
    assert.equal(answer.status, 200, answer.bytes.toString());
    return { revision: Number(String(answer.headers.etag).replaceAll('"', "")), state: answer.json().state };
  }

  /** Every transition raises the revision by one: back among the waiting, claimed again, ended. */
  async #follow(revisions: ReadonlyMap<string, number>, killedMs: number): Promise<Loss> {
    let backMs: number | undefined;
    const sinceMs = (): number => Date.now() - killedMs - this.#pulse.lateMs(killedMs, Date.now());
    const left = new Map(revisions);
    await until(
      "the jobs of a killed host to run again",
      async () => {
        let back = true;
        for (const [id, before] of left) {
          const { revision, state } = await this.#look(id);
          if (revision === before) back = false;
          else if (state !== "queued") left.delete(id);
        }
        if (back) backMs ??= sinceMs();
        return left.size === 0;
      },
      { withinMs: 30_000, everyMs: this.#lookMs, show: () => this.#cluster.log() },
    );
    const claimedMs = sinceMs();
    return { jobs: revisions.size, backMs: backMs ?? claimedMs, claimedMs };
  }
}

async function tagOfLayers(url: string): Promise<string> {
  const { items } = (await call(`${url}/v1/models/layers`)).json() as { items: { digest: string }[] };
  return queueTag("layers", items[0]!.digest);
}

export interface KillsUnderLoad {
  losses: Loss[];
  /** Answers that came back rightly: to held calls, and of submitted jobs. */
  held: number;
  submitted: number;
}

export interface Kills {
  count: number;
  everyMs: number;
  /** Of a client between two calls: the cores must not be full, or the load hides what the kills do. Default 60. */
  pauseMs?: number;
  /** Between two looks at what a killed host had in hand; what is told is later than the truth by this at most. Default 20. */
  lookMs?: number;
}

/** Kills the workers in turn and starts each again, while clients go on. */
export async function killRepeatedly(workers: number, kills: Kills): Promise<KillsUnderLoad> {
  const { pauseMs = 60, lookMs = 20 } = kills;
  await using models = await emptyRepository();
  await models.add("layers", graph, { settings: "max_batch_items: 8\n" });
  const expected = await directRun(graph, rows);
  await using cluster = await startProcesses({ workers, models: models.folder, redisPersists: false });
  const redis = new Redis(cluster.redis.url);
  using pulse = new Pulse();
  try {
    const load = new Load(cluster.url, { holding: 8, submitting: 4, expected, pauseMs });
    await until("the load to flow", async () => load.held > 20);
    const killer = new Killer({ cluster, redis, base: keys.base(await tagOfLayers(cluster.url)), lookMs, pulse });
    const losses: Promise<Loss>[] = [];
    for (let kill = 0; kill < kills.count; kill++) {
      const [{ respawned, loss }] = await Promise.all([killer.kill(kill % workers), sleep(kills.everyMs)]);
      losses.push(loss);
      await respawned;
      if (workers === 1) await loss;
    }
    const all = await Promise.all(losses);
    await load.end();
    await checkSubmitted(cluster.url, load);
    return { losses: all, held: load.held, submitted: load.submitted.length };
  } finally {
    redis.disconnect();
  }
}

/** In one sentence. */
export function describeKills({ losses, held, submitted }: KillsUnderLoad): string {
  const caught = losses.filter(({ jobs }) => jobs > 0);
  const jobs = caught.reduce((sum, loss) => sum + loss.jobs, 0);
  const spread = (times: number[]): string => {
    const sorted = times.sort((a, b) => a - b);
    return `${sorted[Math.floor(sorted.length / 2)]?.toFixed(0)} ms (median), ${sorted.at(-1)?.toFixed(0)} ms (worst)`;
  };
  return (
    `${losses.length} kills, ${caught.length} with ${jobs} jobs in hand; back after ${spread(caught.map(({ backMs }) => backMs))}, ` +
    `claimed again after ${spread(caught.map(({ claimedMs }) => claimedMs))}; ` +
    `${held} held calls and ${submitted} submissions answered`
  );
}
