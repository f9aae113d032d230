/** What a runner has seen of each queue's runs, and what follows for the next claim: how long it may take and how much it may hold. */

/** Inputs and outputs of one claim together, so that no batch outgrows the host's memory. */
export const mostClaimBytes = 256 * 1024 * 1024;

const busyMarginMs = 500;
/** The largest value seen fades by this factor a run. */
const fade = 0.95;

export class QueueFigures {
  readonly #seen = new Map<string, { runMs: number; itemBytes: number }>();

  /** `bytes`: inputs and outputs of all items. */
  ran(tag: string, run: { runMs: number; items: number; bytes: number }): void {
    const before = this.#seen.get(tag) ?? { runMs: 0, itemBytes: 0 };
    const itemBytes = run.items > 0 ? run.bytes / run.items : 0;
    this.#seen.set(tag, { runMs: Math.max(run.runMs, fade * before.runMs), itemBytes: Math.max(itemBytes, fade * before.itemBytes) });
  }

  /** Predicted run and a margin. */
  busyMs(tag: string): number {
    return 2 * (this.#seen.get(tag)?.runMs ?? 0) + busyMarginMs;
  }

  /** At least 1: a job larger than the bound still runs, alone. */
  maxItems(tag: string, modelItems: number): number {
    const itemBytes = this.#seen.get(tag)?.itemBytes ?? 0;
    return itemBytes === 0 ? modelItems : Math.max(1, Math.min(modelItems, Math.floor(mostClaimBytes / itemBytes)));
  }
}
