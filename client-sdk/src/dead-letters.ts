/** Jobs that failed though another run might have succeeded. The server keeps their inputs for a day, so that they can be submitted again. */

import type { CallOptions } from "./job-handle.ts";
import { type DeadLetterView, type Page, pathWith, type RequeuedView, readObject, readPage } from "./job-records.ts";
import type { Call, Transport } from "./transport.ts";

export interface DeadLetterFilter {
  model?: string | undefined;
  version?: number | undefined;
  /** Of the error, such as `poison`. */
  code?: string | undefined;
  /** Dead letters a page, 1 to 200. */
  limit?: number | undefined;
  cursor?: string | undefined;
}

export type Requeued = RequeuedView & { cursor?: string };

const path = "/v1/dead-letters";
const answerMs = 10_000;
/** Up to 200 submissions. */
const requeueMs = 60_000;

export class DeadLetterList {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** One page, newest first. */
  async list(filter: DeadLetterFilter = {}, options: CallOptions = {}): Promise<Page<DeadLetterView>> {
    return readPage<DeadLetterView>(await this.#ask({ path: pathWith(path, { ...filter }), ...options }), "a list of dead letters");
  }

  /** All pages, one dead letter after the other. */
  async *each(filter: DeadLetterFilter = {}, options: CallOptions = {}): AsyncGenerator<DeadLetterView, void, undefined> {
    let { cursor } = filter;
    do {
      const page = await this.list({ ...filter, cursor }, options);
      yield* page.items;
      cursor = page.cursor;
    } while (cursor !== undefined);
  }

  /**
   * Submits one page of them again, each as a new job; for keys with scope `operate`. Says of each what became of it. With the answer's `cursor`
   * the next call goes on, also past those that were refused; where the store went away or was full it begins with what is left of this page.
   */
  async requeue(filter: DeadLetterFilter = {}, options: CallOptions = {}): Promise<Requeued> {
    const text = await this.#ask({ method: "POST", path: pathWith(`${path}:requeue`, { ...filter }), tryMs: requeueMs, ...options });
    const { cursor } = readPage(text, "what became of dead letters");
    const view = readObject(text, "what became of dead letters") as RequeuedView;
    return cursor === undefined ? view : { ...view, cursor };
  }

  /** Lets the inputs of one go. Throws ClientError `not_found` when the job is none. */
  async discard(id: string, options: CallOptions = {}): Promise<DeadLetterView> {
    const text = await this.#ask({ method: "DELETE", path: `${path}/${encodeURIComponent(id)}`, ...options });
    return readObject(text, "a dead letter") as unknown as DeadLetterView;
  }

  async #ask(call: Call): Promise<string> {
    return (await this.#transport.send({ tryMs: answerMs, ...call }, { withinMs: this.#transport.retry.giveUpAfterMs })).text();
  }
}
