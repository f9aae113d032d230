/** Lets a loop rest until there is something to do: whoever brings the first of it wakes it. */

export class FirstComer {
  #onFirst: (() => void) | undefined;

  /** Resolves when `came` is called, or with the signal; at once where something is there already. */
  until(isThere: boolean, signal: AbortSignal): Promise<void> {
    if (isThere || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const end = (): void => {
        this.#onFirst = undefined;
        signal.removeEventListener("abort", end);
        resolve();
      };
      this.#onFirst = end;
      signal.addEventListener("abort", end, { once: true });
    });
  }

  came(): void {
    this.#onFirst?.();
  }
}
