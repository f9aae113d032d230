/** Which messages of a server somebody waits for: answers to requests that are open, and their progress. Pure. */

/** More are not open at a time; of what a server never answers the oldest is forgotten. */
const mostOpen = 10_000;

export class OpenRequests {
  /** Ids of requests, and their tokens of progress. */
  readonly #open = new Map<unknown, unknown>();
  readonly #tokens = new Set<unknown>();

  /** What was sent to the server. */
  sent(message: object): void {
    const { id, method, params } = message as {
      id?: unknown;
      method?: unknown;
      params?: { requestId?: unknown; _meta?: { progressToken?: unknown } };
    };
    if (method === "notifications/cancelled") this.#close(params?.requestId);
    if (id === undefined || method === undefined) return;
    const token = params?._meta?.progressToken;
    this.#open.set(id, token);
    if (token !== undefined) this.#tokens.add(token);
    if (this.#open.size > mostOpen) this.#close(this.#open.keys().next().value);
  }

  /** Whether this message of the server was asked for; an answer is asked for once. */
  take(message: object): boolean {
    const { id, method, params } = message as { id?: unknown; method?: unknown; params?: { progressToken?: unknown } };
    if (method === "notifications/progress") return this.#tokens.has(params?.progressToken);
    return method === undefined && this.#close(id);
  }

  #close(id: unknown): boolean {
    this.#tokens.delete(this.#open.get(id));
    return this.#open.delete(id);
  }
}
