/**
 * Callers without a key: they hold the line on /v2, and ask once, since to ask again would be another job. Their jobs' records are kept for a minute only, and forgotten with
 * those that ended beside them. What they hear names no job: whose a record is shows its answer.
 */

import { isTerminal } from "@switchyard/protocol";
import { type Answer, call } from "../support/calls.ts";
import { codeOf, type Heard, heardIn, passing, valuesOf, viewedOutcome, whyOf } from "./answers.ts";
import { deviceModelName, numberIn, rowOf } from "./device-model.ts";
import type { Ledger, Outcome } from "./ledger.ts";
import { looked } from "./looked.ts";

interface Parts {
  ledger: Ledger;
  /** Why a call may be refused, besides a deadline that cannot be kept. */
  mayRefuse: readonly string[];
  credentials: Record<string, string>;
}

/** Who holds the line gives it up so long after the answer was due. */
const graceMs = 10_000;

interface BareCall {
  key: string;
  /** Of its job; refused calls have none, and of a call without an answer it is not known. */
  heard?: Heard | "refused";
  /** A record was found that is its job's. */
  isFound: boolean;
}

export class BareCalls {
  readonly #parts: Parts;
  readonly #calls = new Map<number, BareCall>();
  readonly #open = new Set<Promise<void>>();
  readonly #over = new AbortController();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Calls now. `key`: what it is called in the ledger. */
  one(url: string, { key, number, timeoutMs }: { key: string; number: number; timeoutMs: number }): void {
    const sent: BareCall = { key, isFound: false };
    this.#calls.set(number, sent);
    this.#parts.ledger.note({ kind: "called", key, number, atMs: Date.now() });
    const open = this.#ask(url, sent, { number, timeoutMs }).catch((error: unknown) => {
      this.#parts.ledger.note({ kind: "broken", key, what: `an answer that cannot be read: ${whyOf(error)}`, atMs: Date.now() });
    });
    this.#open.add(open);
    void open.finally(() => this.#open.delete(open));
  }

  async end(): Promise<void> {
    await Promise.all(this.#open);
  }

  /** They hang up. */
  async abandon(): Promise<void> {
    this.#over.abort();
    await this.end();
  }

  async #ask(url: string, sent: BareCall, { number, timeoutMs }: { number: number; timeoutMs: number }): Promise<void> {
    const { credentials, ledger, mayRefuse } = this.#parts;
    const { key } = sent;
    const inputs = [{ name: "x", datatype: "FP32", shape: [1, 4], data: rowOf(number) }];
    const body = { inputs, parameters: { timeout: timeoutMs * 1_000 } };
    const signal = AbortSignal.any([this.#over.signal, AbortSignal.timeout(timeoutMs + graceMs)]);
    const sentMs = performance.now();
    let answer: Answer;
    try {
      answer = await call(`${url}/v2/models/${deviceModelName}/infer`, { headers: credentials, body, signal });
    } catch (error) {
      ledger.note({ kind: "unknown", key, why: whyOf(error), atMs: Date.now(), tookMs: performance.now() - sentMs });
      return;
    }
    const { status, tookMs } = answer;
    const [code, atMs] = [codeOf(answer), Date.now()];
    const heard = heardIn(answer);
    if (heard) {
      sent.heard = heard;
      ledger.note({ kind: "answered", key, ...heard, atMs, tookMs });
      return;
    }
    // a store that went away may have taken the job before
    if (!passing.has(code)) sent.heard = "refused";
    if (passing.has(code)) ledger.note({ kind: "delayed", key, status, code, atMs, tookMs });
    else if (code === "deadline_unattainable" || mayRefuse.includes(code))
      ledger.note({ kind: "refused", key, status, code, atMs, tookMs });
    else ledger.note({ kind: "broken", key, what: `${status} ${answer.bytes.toString().slice(0, 500)}`, atMs });
  }

  /**
   * Looks at jobs that nobody was told of, and notes which call each was, and its outcome. Answers those that are explained without that: whose minute was over meanwhile, and
   * those that did not succeed where a call is left that may have ended so. To be called once, soon after they were listed.
   */
  async lookAt(ids: readonly string[], ask: (path: string) => Promise<Answer | undefined>): Promise<string[]> {
    const explained: string[] = [];
    const unfortunate: { id: string; state: Outcome["state"] }[] = [];
    await looked(ids, async (id) => {
      const view = await ask(`/v1/jobs/${id}`);
      const outcome = view?.status === 200 ? viewedOutcome(view) : undefined;
      const result = outcome?.state === "succeeded" ? await ask(`/v1/jobs/${id}/result`) : undefined;
      if ((result ?? view)?.status === 404) explained.push(id);
      else if (outcome && result?.status === 200) this.#note(id, { ...outcome, answer: valuesOf(result) });
      else if (outcome && isTerminal(outcome.state) && !result) unfortunate.push({ id, state: outcome.state });
      // the checker tells of any other as of a job that nobody was told of
    });
    return [...explained, ...this.#explained(unfortunate)];
  }

  #note(id: string, outcome: Outcome): void {
    const { ledger } = this.#parts;
    const owner = this.#calls.get(numberIn(outcome.answer!));
    if (!owner) return;
    owner.isFound = true;
    ledger.note({ kind: "ack", key: owner.key, id, isReplay: false, atMs: Date.now(), tookMs: 0 });
    ledger.note({ kind: "outcome", key: owner.key, id, outcome, atMs: Date.now() });
  }

  /** What did not succeed has no answer to tell whose it was: for each there must be a call that heard just that, or one that heard nothing. */
  #explained(jobs: readonly { id: string; state: Outcome["state"] }[]): string[] {
    const calls = [...this.#calls.values()].filter(({ heard, isFound }) => !isFound && heard !== "refused");
    const heardBy = (state: Outcome["state"] | undefined): number =>
      calls.filter(({ heard }) => (heard as Heard | undefined)?.state === state).length;
    const ofState = Map.groupBy(jobs, ({ state }) => state);
    let unheard = heardBy(undefined);
    const explained: string[] = [];
    for (const [state, those] of ofState) {
      const told = heardBy(state);
      const untold = Math.min(Math.max(0, those.length - told), unheard);
      unheard -= untold;
      explained.push(...those.slice(0, told + untold).map(({ id }) => id));
    }
    return explained;
  }
}
