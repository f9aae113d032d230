/**
 * Whether this host was asked to take no jobs, and what follows from it. Each step may meet a store that fails, so that none is counted as done
 * because it was begun: every look does again what is left of it.
 */

interface Parts {
  isAsked: () => Promise<boolean>;
  /** Aborts when the host takes no more work at all. */
  stop: AbortSignal;
  /** Takes no further tickets from now on. Never throws. */
  rest: () => void;
  /** May take tickets again, once `subscribe` has resolved. Never throws. */
  resume: () => void;
  /** Tickets at hand. */
  held: () => readonly string[];
  /** To others; what is claimed is finished and committed. Nothing for a ticket that was released before. */
  release: (ticketId: string) => Promise<void>;
  /** Waits for tickets of all that this host serves; nothing for what it waits for already. */
  subscribe: () => Promise<void>;
  onChange: () => void;
}

export class RequestedDrain {
  readonly #parts: Parts;
  #rests = false;
  #subscribed = true;
  #looking = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** It stays registered, with its models, and takes no jobs. */
  rests(): boolean {
    return this.#rests;
  }

  /** At the start, before there are subscriptions and tickets. */
  async begin(): Promise<void> {
    if (await this.#parts.isAsked()) this.#rest();
  }

  /** With each beat; one at a time, as a look may take longer. Throws when the store fails: the next one goes on. */
  async follow(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    try {
      await this.#look();
    } finally {
      this.#looking = false;
    }
  }

  async #look(): Promise<void> {
    const { held, isAsked, onChange, release, resume, stop, subscribe } = this.#parts;
    const asked = await isAsked();
    if (stop.aborted) return;
    if (asked !== this.#rests) {
      if (asked) this.#rest();
      else {
        this.#rests = false;
        this.#subscribed = false;
        resume();
      }
      onChange();
    }
    if (this.#rests) {
      for (const ticketId of held()) await release(ticketId);
    } else if (!this.#subscribed) {
      await subscribe();
      this.#subscribed = true;
      onChange();
    }
  }

  #rest(): void {
    this.#rests = true;
    this.#parts.rest();
  }
}
