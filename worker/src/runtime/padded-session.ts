/**
 * A session whose runs all have the same number of items: smaller batches are filled up, and what the filling answers is cut off. For runtimes
 * that plan anew whenever a shape differs from that of the run before. On an H200, ONNX Runtime 1.30 took 2.7 ms for a ResNet-50 with 8 images and
 * 100 to 500 ms more for each batch of another size than the last, as cuDNN looked for its algorithms again.
 */

import { elementBytes, type Tensor, type TensorSignature } from "@switchyard/protocol";
import type { Session } from "./session.ts";

/** A change of size that costs less is borne: to fill a batch up costs as well. */
const leastChangeMs = 5;
/** Of a whole run, how much more. */
const leastChangeShare = 1;
const changes = 2;

export class PaddedSession implements Session {
  readonly inputs: readonly TensorSignature[];
  readonly outputs: readonly TensorSignature[];
  readonly #session: Session;
  readonly #items: number;
  /** Filled anew by each run that is not whole. */
  readonly #buffers = new Map<string, Uint8Array>();

  constructor(session: Session, items: number) {
    this.inputs = session.inputs;
    this.outputs = session.outputs;
    this.#session = session;
    this.#items = items;
  }

  async run(feeds: readonly Tensor[], wanted: readonly string[]): Promise<Map<string, Tensor>> {
    const items = feeds[0]?.shape[0] ?? 0;
    const isPart = items > 0 && items < this.#items && feeds.every((feed) => feed.shape[0] === items && feed.datatype !== "BYTES");
    if (!isPart) return this.#session.run(feeds, wanted);
    const outputs = await this.#session.run(
      feeds.map((feed) => this.#filled(feed, items)),
      wanted,
    );
    return new Map([...outputs].map(([name, output]) => [name, firstItems(output, items, this.#items)]));
  }

  /** With copies of its first item: a run that is fit for that one cannot fail by them. */
  #filled({ name, datatype, shape, bytes }: Tensor, items: number): Tensor {
    const itemBytes = bytes.length / items;
    const wholeBytes = itemBytes * this.#items;
    const kept = this.#buffers.get(name);
    const filled = kept?.length === wholeBytes ? kept : new Uint8Array(wholeBytes);
    this.#buffers.set(name, filled);
    filled.set(bytes);
    for (let at = bytes.length; at < wholeBytes; at += itemBytes) filled.copyWithin(at, 0, itemBytes);
    return { name, datatype, shape: [this.#items, ...shape.slice(1)], bytes: filled };
  }

  release(): Promise<void> {
    return this.#session.release();
  }
}

/** What has no such axis is answered as it is: whoever splits it says that it cannot be split. */
function firstItems(output: Tensor, items: number, filledTo: number): Tensor {
  const { datatype, shape, bytes } = output;
  if (shape[0] !== filledTo || datatype === "BYTES") return output;
  const itemBytes = shape.slice(1).reduce((product, size) => product * size, elementBytes[datatype]);
  return { ...output, shape: [items, ...shape.slice(1)], bytes: bytes.subarray(0, items * itemBytes) };
}

/** `take` runs so many items once and answers its milliseconds; both sizes have run before, which takes `steadyMs` when nothing changes. */
export async function costOfChange(sizes: {
  take: (items: number) => Promise<number>;
  whole: { items: number; steadyMs: number };
  part: { items: number; steadyMs: number };
}): Promise<number> {
  const { take, whole, part } = sizes;
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < changes; round++) {
    least = Math.min(least, (await take(part.items)) - part.steadyMs);
    least = Math.min(least, (await take(whole.items)) - whole.steadyMs);
  }
  return Math.max(0, least);
}

/** Whether it pays to fill every batch up. */
export function isCostly(changeMs: number, wholeMs: number): boolean {
  return changeMs > leastChangeMs && changeMs > leastChangeShare * wholeMs;
}
