/**
 * A session whose runs all have the same number of items: smaller batches are filled up, and what the filling answers is cut off. For devices
 * that pay for a batch of another size than the last, or whose numbers depend on the size: on an H200, ONNX Runtime 1.30 took 2.7 ms for a
 * ResNet-50 with 8 images, and 100 to 500 ms more after each change, as cuDNN looked for its algorithms again.
 */

import { elementBytes, type Tensor, type TensorSignature } from "@switchyard/protocol";
import { RunFailure, type Session } from "./session.ts";

/** Filled inputs of one run, which are kept in memory. */
const mostFilledBytes = 64 * 1024 * 1024;
/** A change of size that costs less is borne: to fill a batch up costs as well. It must also cost more than a whole run. */
const leastChangeMs = 5;
const changes = 2;
/** A size whose first run takes longer, or the others, is not worth the time to look further. */
const patience = { firstMs: 5_000, steadyMs: 1_000 };

/** Inputs and outputs whose items are all alike, one behind the other, and not too large. */
export function canFillUp({ inputs, outputs }: Pick<Session, "inputs" | "outputs">, items: number): boolean {
  const isStacked = ({ datatype, shape }: TensorSignature): boolean => shape[0] === -1 && datatype !== "BYTES";
  if (items < 2 || inputs.length === 0 || ![...inputs, ...outputs].every(isStacked)) return false;
  if (inputs.some(({ shape }) => shape.indexOf(-1, 1) !== -1)) return false;
  return inputs.reduce((sum, input) => sum + itemBytesOf(input) * items, 0) <= mostFilledBytes;
}

function itemBytesOf({ datatype, shape }: Pick<TensorSignature, "datatype" | "shape">): number {
  return shape.slice(1).reduce((product, size) => product * size, datatype === "BYTES" ? 0 : elementBytes[datatype]);
}

/** One run at a time: runs share the memory that is filled. */
export class PaddedSession implements Session {
  readonly inputs: readonly TensorSignature[];
  readonly outputs: readonly TensorSignature[];
  readonly #session: Session;
  readonly #items: number;
  readonly #filled = new Map<string, Uint8Array>();
  /** An output has shown that its items are not one behind the other. */
  #isOff = false;

  /** `canFillUp` must hold. */
  constructor(session: Session, items: number) {
    this.inputs = session.inputs;
    this.outputs = session.outputs;
    this.#session = session;
    this.#items = items;
  }

  async run(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Map<string, Tensor>> {
    const items = feeds[0]?.shape[0] ?? 0;
    const isPart = items > 0 && items < this.#items && feeds.every((feed) => feed.shape[0] === items);
    if (!isPart || this.#isOff) return this.#session.run(feeds, wanted);
    const whole = feeds.map((feed) => this.#fill(feed, items));
    let outputs: Map<string, Tensor>;
    try {
      outputs = await this.#session.run(whole, wanted);
    } catch (error) {
      // what is short now may be enough for fewer
      if (error instanceof RunFailure && error.retryable) return this.#session.run(feeds, wanted);
      throw error;
    }
    this.#isOff = [...outputs.values()].some(({ shape }) => shape[0] !== this.#items);
    if (this.#isOff) return this.#session.run(feeds, wanted);
    return new Map([...outputs].map(([name, output]) => [name, firstItems(output, items)]));
  }

  /** With copies of its first item: a run that is fit for that one is fit for them. */
  #fill({ name, datatype, shape, bytes }: Tensor, items: number): Tensor {
    const itemBytes = bytes.length / items;
    const kept = this.#filled.get(name);
    const filled = kept ?? new Uint8Array(itemBytes * this.#items);
    if (!kept) this.#filled.set(name, filled);
    filled.set(bytes);
    for (let at = bytes.length; at < filled.length; at += itemBytes) filled.copyWithin(at, 0, itemBytes);
    return { name, datatype, shape: [this.#items, ...shape.slice(1)], bytes: filled };
  }

  release(): Promise<void> {
    return this.#session.release();
  }
}

function firstItems(output: Tensor, items: number): Tensor {
  const { shape, bytes } = output;
  return { ...output, shape: [items, ...shape.slice(1)], bytes: bytes.subarray(0, items * itemBytesOf(output)) };
}

export interface Change {
  /** How much longer a run of another size than the last takes. */
  changeMs: number;
  /** A run of all items, where nothing changes. */
  wholeMs: number;
}

/** `take` runs so many items once and answers its milliseconds. Undefined where runs take too long for the answer to matter. */
export async function costOfChange(items: number, take: (items: number) => Promise<number>): Promise<Change | undefined> {
  const part = items >> 1;
  // the first of a size pays for more than the change
  if ((await take(part)) > patience.firstMs) return undefined;
  const partMs = await take(part);
  if (partMs > patience.steadyMs) return undefined;
  await take(items);
  const wholeMs = await take(items);
  let changeMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < changes; round++) {
    changeMs = Math.min(changeMs, (await take(part)) - partMs);
    changeMs = Math.min(changeMs, (await take(items)) - wholeMs);
  }
  return { changeMs: Math.max(0, changeMs), wholeMs };
}

/** Whether it pays to fill every batch up. */
export function isDear({ changeMs, wholeMs }: Change): boolean {
  return changeMs > leastChangeMs && changeMs > wholeMs;
}
