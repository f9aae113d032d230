/**
 * Callers without a key: they hold the line on /v2, and ask once, since to ask again would be another job. Their jobs' records are kept for a minute only, and forgotten with
 * those that ended beside them. What they hear names no job: whose a record is shows its answer.
 */

import { type Answer, call } from "../support/calls.ts";
import { codeOf, type Heard, heardIn, outcomeOf, passing, valuesOf, whyOf } from "./answers.ts";
import { deviceModelName, numberIn, rowOf } from "./device-model.ts";
import type { Ledger, Outcome } from "./ledger.ts";

interface Parts {
  ledger: Ledger;
  /** Why a call may be refused, besides a deadline that cannot be kept. */
  mayRefuse: readonly string[];
  credentials: Record<string, string>;
}

/** Who holds the line gives it up so long after the answer was due. */
const graceMs = 10_000;

interface Call {
  key: string;
  heard?: Heard;
}

export class BareCalls {
  readonly #parts: Parts;
  readonly #calls = new Map<number, Call>();
  readonly #open = new Set<Promise<void>>();
  readonly #over = new AbortController();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Calls now. `key`: what it is called in the ledger. */
  one(url: string, { key, number, timeoutMs }: { key: string; number: number; timeoutMs: number }): void {
    const sent: Call = { key };
    this.#calls.set(number, sent);
    this.#parts.ledger.note({ kind: "called", key, number, atMs: Date.now() });
    const open = this.#call(url, sent, { number, timeoutMs });
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

  async #call(url: string, sent: Call, { number, timeoutMs }: { number: number; timeoutMs: number }): Promise<void> {
    const { credentials, ledger } = this.#parts;
    const { key } = sent;
    const inputs = [{ name: "x", datatype: "FP32", shape: [1, 4], data: rowOf(number) }];
    const body = { inputs, parameters: { timeout: timeoutMs * 1_000 } };
    const signal = AbortSignal.any([this.#over.signal, AbortSignal.timeout(timeoutMs + graceMs)]);
    const sentMs = performance.now();
    let answer: Answer;
    try {
      answer = await call(`${url}/v2/models/${deviceModelName}/infer`, {
        headers: credentials,
        body,
        signal,
      });
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
    } else if (passing.has(code)) ledger.note({ kind: "delayed", key, status, code, atMs, tookMs });
    else if (code === "deadline_unattainable" || this.#parts.mayRefuse.includes(code))
      ledger.note({ kind: "refused", key, status, code, atMs, tookMs });
    else ledger.note({ kind: "broken", key, what: `${status} ${answer.bytes.toString().slice(0, 500)}`, atMs });
  }

  /**
   * Looks at jobs that have ended and that nobody was told of, and notes which call each was, and its outcome. Answers those that need no such note: whose minute was over
   * meanwhile, and those that ended as a call did that did not succeed.
   */
  async lookAt(ids: readonly string[], ask: (path: string) => Promise<Answer | undefined>): Promise<string[]> {
    const explained: string[] = [];
    const seen = new Set<Call>();
    for (const id of ids) {
      const view = await ask(`/v1/jobs/${id}`);
      const outcome = view?.status === 200 ? outcomeOf(view) : undefined;
      const result = outcome?.state === "succeeded" ? await ask(`/v1/jobs/${id}/result`) : undefined;
      if ((result ?? view)?.status === 404) explained.push(id);
      if (!outcome || (result && result.status !== 200)) continue;
      if (result) this.#note(id, { ...outcome, answer: valuesOf(result) });
      else if (this.#unfortunate(outcome.state, seen)) explained.push(id);
    }
    return explained;
  }

  #note(id: string, outcome: Outcome): void {
    const { ledger } = this.#parts;
    const key = this.#calls.get(numberIn(outcome.answer!))?.key;
    if (key === undefined) return; // the checker tells of a job that nobody was told of
    ledger.note({ kind: "ack", key, id, isReplay: false, atMs: Date.now(), tookMs: 0 });
    ledger.note({ kind: "outcome", key, id, outcome, atMs: Date.now() });
  }

  /** Whether there is another call that may have ended so: what has no answer does not tell whose it was. */
  #unfortunate(state: Outcome["state"], seen: Set<Call>): boolean {
    for (const one of this.#calls.values()) {
      if (seen.has(one) || (one.heard ?? { state }).state !== state) continue;
      seen.add(one);
      return true;
    }
    return false;
  }
}
