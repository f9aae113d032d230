/**
 * How many bytes of request bodies are held at once, over HTTP and gRPC together: what has come of bodies that are still being read, and bodies that
 * wait to be decoded. Small bodies are not counted: they pass while large ones are refused.
 */

export const countedFromBytes = 64 * 1024;

export interface HeldBody {
  /** Says how much of the body is held now; false when the budget has no room for that. */
  has(sizeBytes: number): boolean;
  /** The body is held no longer; another one may be in its place. */
  leave(): void;
}

export class BodyBudget {
  readonly #maxBytes: number;
  #heldBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  body(): HeldBody {
    let countedBytes = 0;
    return {
      has: (sizeBytes) => {
        if (sizeBytes < countedFromBytes) return true;
        if (this.#heldBytes + sizeBytes - countedBytes > this.#maxBytes) return false;
        this.#heldBytes += sizeBytes - countedBytes;
        countedBytes = sizeBytes;
        return true;
      },
      leave: () => {
        this.#heldBytes -= countedBytes;
        countedBytes = 0;
      },
    };
  }
}
