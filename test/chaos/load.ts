/**
 * Clients: an open loop that sends jobs at a rate, whatever becomes of the earlier ones, and asks again with the same key until it has a
 * definite answer, as the SDK does. Every job is told apart by its number, which its answer repeats.
 */

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type DurableTier, isTerminal, type JobClass, type JobView } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { Redis } from "ioredis";
import { type SeededRandom, seededRandom } from "../../scripts/seeded-random.ts";
import { type Answer, type Ask, call } from "../support/calls.ts";
import { codeOf, type Heard, heardIn, passing, valuesOf, viewedOutcome, whyOf } from "./answers.ts";
import { BareCalls } from "./bare-calls.ts";
import { deviceModelName, rowOf } from "./device-model.ts";
import { type Ledger, type Manner, manners, type Outcome } from "./ledger.ts";
import { looked } from "./looked.ts";

export interface LoadPlan {
  seed: number;
  /** Jobs a second. */
  rate: number;
  /** Each is sent when the one before it has its outcome, and `rate` tells the pauses. */
  oneAtATime?: boolean;
  timeoutMs: { least: number; most: number };
  /** Jobs are numbered from here, so that several loads of a scene do not meet. */
  firstNumber?: number;
  /** Which ways of asking take turns; unless told otherwise all of them, and beside them calls without a key. */
  manners?: readonly Manner[];
  class?: JobClass;
  tenant?: { name: string; apiKey: string };
  /** Of jobs that are sent on /v1; those on /v2 are always fast. */
  durability?: DurableTier;
  /** One in so many of the jobs that were submitted is cancelled at some moment of its life. */
  cancelEvery?: number;
  /** Why a job may be refused, besides a deadline that cannot be kept. */
  mayRefuse?: readonly string[];
  /** Where results go while the load lasts: a job is looked at again while it must be there, and in the end, when it must not. */
  retention?: Retention;
}

export interface Retention {
  /** How long a result is kept. */
  keptMs: number;
  /** How long after that it is known that there was a job. */
  knownMs: number;
}

interface Parts {
  /** Where coordinators answer, as they are now; the first try of each job goes to the next one. */
  urls: () => readonly string[];
  ledger: Ledger;
  redis: Redis;
}

const pauseMs = 250;
/** A client gives an answer this long before it counts it as none and asks again. */
const answerMs = 15_000;
const waitSeconds = 10;
/** Of a job that is cancelled: about what jobs live at this load. */
const longestLifeMs = 120;
/** Longer than what waits takes to be run, and than a host lingers after it. */
const turnMs = 4_000;
/** With one in so many jobs that many calls without a key come at once, so that some end together. */
const bare = { every: 8, calls: 2 };
/** Their numbers are in none's way, and no larger than answers can tell. */
const firstBare = 3_000_000;
/** How exactly the store forgets, with an answer's way. */
const retentionSlackMs = 2_000;

interface Sent {
  key: string;
  number: number;
  timeoutMs: number;
}

export class Load {
  readonly #plan: LoadPlan;
  readonly #parts: Parts;
  readonly #random: SeededRandom;
  readonly #open = new Set<Promise<void>>();
  /** What calls on /v2 heard; their answers name no job. */
  readonly #heard = new Map<string, Heard & { isReplay: boolean; tookMs: number }>();
  readonly #ids = new Map<string, string>();
  /** When a job had ended, of those whose results go while the load lasts. */
  readonly #finishedMs = new Map<string, number>();
  readonly #failures: unknown[] = [];
  readonly #bare: BareCalls | undefined;
  #bareNumber = 0;
  #sender: Promise<void> | undefined;
  #over = false;
  #abandoned = false;
  /** After this nobody asks any more. */
  #giveUpMs = Number.POSITIVE_INFINITY;
  #number = 0;
  #turn = 0;
  /** Jobs whose outcome a client has heard. */
  answers = 0;
  /** Whether nobody sends for now. */
  #rests = false;

  constructor(plan: LoadPlan, parts: Parts) {
    this.#plan = plan;
    this.#parts = parts;
    this.#random = seededRandom(plan.seed);
    const { manners: chosen, mayRefuse = [] } = plan;
    if (chosen === undefined) this.#bare = new BareCalls({ ledger: parts.ledger, mayRefuse, credentials: this.#credentials });
  }

  get #credentials(): Record<string, string> {
    const { tenant } = this.#plan;
    return tenant ? { authorization: `Bearer ${tenant.apiKey}` } : {};
  }

  get sent(): number {
    return this.#number;
  }

  start(): void {
    this.#sender = this.#send();
  }

  /** Ends the sending, and resolves when every job has its outcome, or nobody can wait for it any more. */
  async end(): Promise<void> {
    this.#over = true;
    const longestMs = this.#plan.timeoutMs.most + 10_000 + (this.#plan.retention?.keptMs ?? 0);
    this.#giveUpMs = Date.now() + longestMs; // the sender may wait for a job, too
    await this.#sender;
    await Promise.all([...this.#open, this.#bare?.end()]);
    if (this.#failures.length > 0) throw this.#failures[0];
  }

  /** Nobody asks for anything any more; for a scene that ends without a verdict. */
  async abandon(): Promise<void> {
    this.#abandoned = true;
    this.#over = true;
    this.#giveUpMs = 0;
    await this.#sender;
    await Promise.all([...this.#open, this.#bare?.abandon()]);
  }

  async #send(): Promise<void> {
    let dueMs = performance.now();
    while (!this.#over) {
      dueMs += (-Math.log(1 - this.#random.next()) * 1000) / this.#plan.rate;
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await sleep(waitMs);
      if (this.#over) return;
      if (!this.#rests) this.one();
      if (!this.#plan.oneAtATime) continue;
      await Promise.all(this.#open);
      dueMs = performance.now();
    }
  }

  /**
   * Sends and rests by turns while something is waited for since that moment (performance.now()): on a slow machine hosts never come to the end of
   * their work otherwise, and ask for no ticket. Without a moment it goes on as ever.
   */
  takeTurns(sinceMs: number | undefined): void {
    this.#rests = sinceMs !== undefined && (performance.now() - sinceMs) % (2 * turnMs) >= turnMs;
  }

  /** Sends one job now. */
  one(): void {
    const number = (this.#plan.firstNumber ?? 0) + ++this.#number;
    const chosen = this.#plan.manners ?? manners;
    const manner = chosen[number % chosen.length]!;
    const { least, most } = this.#plan.timeoutMs;
    const sent: Sent = { key: `chaos-${this.#plan.seed}-${number}`, number, timeoutMs: least + this.#random.below(most - least + 1) };
    this.#parts.ledger.note({ kind: "submit", ...sent, manner, atMs: Date.now() });
    const job = this.#run(manner, sent).catch((error: unknown) => void this.#failures.push(error));
    this.#open.add(job);
    void job.finally(() => this.#open.delete(job));
    if (number % bare.every === 0) for (let at = 0; at < bare.calls; at++) this.#oneBare(sent.timeoutMs);
  }

  #oneBare(timeoutMs: number): void {
    const number = (this.#plan.firstNumber ?? 0) + firstBare + ++this.#bareNumber;
    const urls = this.#parts.urls();
    this.#bare?.one(urls[number % urls.length]!, { key: `bare-${this.#plan.seed}-${number}`, number, timeoutMs });
  }

  async #run(manner: Manner, sent: Sent): Promise<void> {
    const inputs = [{ name: "x", datatype: "FP32", shape: [1, 4], data: rowOf(sent.number) }];
    const timeout_ms = sent.timeoutMs;
    const ask: Ask = {
      headers: { "idempotency-key": sent.key, ...(manner === "held" && { prefer: `wait=${waitSeconds}` }) },
      body:
        manner === "infer"
          ? { inputs, parameters: { timeout: sent.timeoutMs * 1_000 } }
          : {
              model: deviceModelName,
              inputs,
              timeout_ms,
              ...(this.#plan.class && { class: this.#plan.class }),
              ...(this.#plan.durability && { durability: this.#plan.durability }),
            },
    };
    const path = manner === "infer" ? `/v2/models/${deviceModelName}/infer` : "/v1/jobs";
    const answer = await this.#untilDefinite(sent.key, path, ask);
    if (answer === undefined) return this.#noAnswer(sent.key, `${manner}: no definite answer`);
    if (manner === "infer") this.#hear(sent, answer);
    else if (answer.status === 200 || answer.status === 202) await this.#follow(sent, answer);
    else this.#refuse(sent, answer);
    if (!this.#plan.retention) return;
    await this.#identify(sent.key);
    await sleep(this.#plan.retention.keptMs / 2);
    await this.#lookAt(sent.key);
  }

  /** Asks one coordinator after the other until an answer settles what became of the request; nothing where time ran out. */
  async #untilDefinite(key: string, path: string, ask: Ask): Promise<Answer | undefined> {
    const { ledger, urls } = this.#parts;
    for (let turn = this.#turn++; Date.now() < this.#giveUpMs; turn++) {
      let toldMs = 0;
      const all = urls();
      const sentMs = performance.now();
      try {
        const signal = AbortSignal.timeout(answerMs);
        const answer = await call(`${all[turn % all.length]}${path}`, {
          ...ask,
          headers: { ...ask.headers, ...this.#credentials },
          signal,
        });
        if (!passing.has(codeOf(answer))) return answer;
        ledger.note({ kind: "delayed", key, status: answer.status, code: codeOf(answer), atMs: Date.now(), tookMs: answer.tookMs });
        toldMs = Number(answer.headers["retry-after"] ?? 0) * 1_000;
      } catch (error) {
        const tookMs = performance.now() - sentMs;
        ledger.note({ kind: "unknown", key, why: whyOf(error), atMs: Date.now(), tookMs });
      }
      await sleep(Math.max(pauseMs, toldMs) * (1 + this.#random.next()));
    }
    return undefined;
  }

  #hear({ key }: Sent, answer: Answer): void {
    const [isReplay, tookMs] = [answer.headers["idempotent-replayed"] === "true", answer.tookMs];
    this.answers += Number(answer.status === 200);
    const heard = heardIn(answer);
    if (heard) this.#heard.set(key, { ...heard, isReplay, tookMs });
    else this.#refuse({ key }, answer);
  }

  #refuse({ key }: Pick<Sent, "key">, answer: Answer): void {
    const [code, atMs, tookMs] = [codeOf(answer), Date.now(), answer.tookMs];
    if (code === "deadline_unattainable" || this.#plan.mayRefuse?.includes(code))
      this.#parts.ledger.note({ kind: "refused", key, status: answer.status, code, atMs, tookMs });
    else this.#parts.ledger.note({ kind: "broken", key, what: `${answer.status} ${answer.bytes.toString().slice(0, 500)}`, atMs });
  }

  async #follow({ key, number }: Sent, answer: Answer): Promise<void> {
    const { id } = answer.json() as JobView;
    this.#ack(key, id, answer.headers["idempotent-replayed"] === "true", answer.tookMs);
    const { cancelEvery } = this.#plan;
    const cancelled = cancelEvery !== undefined && number % cancelEvery === 0 ? this.#cancel(key, id) : undefined;
    const outcome = await this.#outcomeOf(key, id, true);
    this.answers += Number(outcome !== undefined);
    if (outcome) this.#parts.ledger.note({ kind: "outcome", key, id, outcome, atMs: Date.now() });
    const told = await cancelled;
    if (cancelled === undefined || outcome === undefined) return;
    // 200: the record moved, by this call; 409: it had ended otherwise, and has not changed
    if (told === (outcome.state === "cancelled" ? 200 : 409)) return;
    this.#parts.ledger.note({ kind: "broken", key, what: `DELETE answered ${told}, and the job ${outcome.state}`, atMs: Date.now() });
  }

  async #cancel(key: string, id: string): Promise<number | undefined> {
    await sleep(this.#random.below(longestLifeMs));
    return (await this.#untilDefinite(key, `/v1/jobs/${id}`, { method: "DELETE" }))?.status;
  }

  #noAnswer(key: string, what: string): void {
    if (!this.#abandoned) this.#parts.ledger.note({ kind: "broken", key, what, atMs: Date.now() });
  }

  #ack(key: string, id: string, isReplay: boolean, tookMs: number): void {
    this.#ids.set(key, id);
    this.#parts.ledger.note({ kind: "ack", key, id, isReplay, atMs: Date.now(), tookMs });
  }

  /** The job's end as its view and its result tell it; nothing where it has none, or nobody answers. `waits`: until it has one. */
  async #outcomeOf(key: string, id: string, waits: boolean): Promise<Outcome | undefined> {
    for (;;) {
      const answer = await this.#untilDefinite(key, `/v1/jobs/${id}${waits ? `?wait=${waitSeconds}` : ""}`, {});
      if (answer === undefined) {
        this.#noAnswer(key, `no answer about job ${id}`);
        return undefined;
      }
      if (answer.status === 404) {
        this.#parts.ledger.note({ kind: "gone", key, id, why: "unknown", atMs: Date.now() });
        return undefined;
      }
      if (answer.status !== 200) {
        this.#parts.ledger.note({ kind: "broken", key, what: `job ${id}: ${answer.status} ${answer.bytes}`, atMs: Date.now() });
        return undefined;
      }
      const view = answer.json() as JobView;
      if (!isTerminal(view.state)) {
        if (waits) continue;
        // nothing was open any more when this last look began
        this.#parts.ledger.note({ kind: "gone", key, id, why: `is ${view.state} again`, atMs: Date.now() });
        return undefined;
      }
      const outcome = viewedOutcome(answer);
      if (view.state !== "succeeded") return outcome;
      const result = await this.#untilDefinite(key, `/v1/jobs/${id}/result`, {});
      if (result?.status === 200) outcome.answer = valuesOf(result);
      else this.#noAnswer(key, `the result of job ${id}: ${result ? `${result.status} ${result.bytes}` : "no answer"}`);
      return outcome;
    }
  }

  /** Finds out which jobs answers on /v2 were about. */
  async identify(): Promise<void> {
    if (this.#plan.retention) return; // that was done when they came
    await looked(this.#heard.keys(), (key) => this.#identify(key));
  }

  /** Looks at every acknowledged job once more, as another client would: an outcome must not have changed. */
  async lookAgain(): Promise<void> {
    this.#giveUpMs = Date.now() + 600_000;
    const { retention } = this.#plan;
    await looked(this.#ids.keys(), (key) => (retention ? this.#lookForRemains(key, retention) : this.#lookAt(key)));
  }

  async #lookAt(key: string): Promise<void> {
    const id = this.#ids.get(key);
    if (id === undefined) return;
    const outcome = await this.#outcomeOf(key, id, false);
    if (outcome === undefined) return;
    const heard = this.#heard.get(key);
    const { ledger } = this.#parts;
    if (heard) {
      const told: Outcome = { ...outcome, state: heard.state };
      delete told.answer;
      if (heard.answer) told.answer = heard.answer;
      ledger.note({ kind: "outcome", key, id, outcome: told, atMs: Date.now() });
    }
    ledger.note({ kind: "outcome", key, id, outcome, atMs: Date.now() });
    this.#finishedMs.set(key, outcome.finishedMs);
  }

  /** A job whose result was kept for long enough is gone: 410 for as long as it is known, 404 after that. */
  async #lookForRemains(key: string, { keptMs, knownMs }: Retention): Promise<void> {
    const id = this.#ids.get(key)!;
    const finishedMs = this.#finishedMs.get(key);
    if (finishedMs === undefined) return; // nobody heard of its end: the checker tells
    const answer = await this.#untilDefinite(key, `/v1/jobs/${id}`, {});
    const ageMs = Date.now() - finishedMs;
    const states = [
      { status: 200, fromMs: 0, untilMs: keptMs },
      { status: 410, fromMs: keptMs, untilMs: keptMs + knownMs },
      { status: 404, fromMs: keptMs + knownMs, untilMs: Number.POSITIVE_INFINITY },
    ];
    const possible = states.filter(({ fromMs, untilMs }) => ageMs >= fromMs - retentionSlackMs && ageMs <= untilMs + retentionSlackMs);
    if (answer !== undefined && possible.some(({ status }) => status === answer.status)) return;
    const what = `job ${id}, ${(ageMs / 1_000).toFixed(1)} s after its end: ${answer?.status ?? "no answer"}`;
    this.#parts.ledger.note({ kind: "broken", key, what, atMs: Date.now() });
  }

  /** Which job an answer on /v2 was about: its key names it. */
  async #identify(key: string): Promise<void> {
    const heard = this.#heard.get(key);
    if (heard === undefined) return;
    const name = createHash("sha256").update(key).digest("hex").slice(0, 40);
    const entry = await this.#parts.redis.get(keys.idempotency(this.#plan.tenant?.name ?? "default", name));
    const id = entry?.split(" ")[1];
    if (id === undefined) this.#parts.ledger.note({ kind: "broken", key, what: "an answer whose key names no job", atMs: Date.now() });
    else this.#ack(key, id, heard.isReplay, heard.tookMs);
  }

  /** Looks at jobs that nobody was told of: those of calls without a key. Answers those of which nothing has to be noted; see BareCalls. */
  async lookAtBare(ids: readonly string[]): Promise<string[]> {
    this.#giveUpMs = Date.now() + 60_000;
    return (await this.#bare?.lookAt(ids, (path) => this.#untilDefinite("a look", path, {}))) ?? [];
  }

  /** A job that a recipe submitted itself: it is looked at in the end as all others are. */
  adopt(key: string, id: string): void {
    this.#ack(key, id, false, 0);
  }
}
