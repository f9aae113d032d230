/** Where batches of a model on a thread of its own are laid: memory that goes to that thread as it is, without a copy, and comes back with what it answers. */

import type { BatchMemory } from "./stacking.ts";

/** Of memory for batches, of one model. */
const mostKept = 8;
const mostKeptBytes = 64 * 1024 * 1024;

export class TravellingMemory implements BatchMemory {
  readonly #free: ArrayBuffer[] = [];
  readonly #own = new WeakSet<ArrayBufferLike>();

  take(_name: string, sizeBytes: number): Uint8Array {
    const at = this.#free.findIndex(({ byteLength }) => byteLength >= sizeBytes);
    // a quarter more than asked for, so that batches that grow by one find room
    const buffer = this.#free.splice(at, at < 0 ? 0 : 1)[0] ?? new ArrayBuffer(Math.ceil((sizeBytes * 1.25) / 8) * 8);
    this.#own.add(buffer);
    return new Uint8Array(buffer, 0, sizeBytes);
  }

  owns({ buffer }: Uint8Array): boolean {
    return this.#own.has(buffer);
  }

  /** The largest are kept. */
  back(buffers: readonly ArrayBuffer[]): void {
    this.#free.push(...buffers.filter(({ byteLength }) => byteLength <= mostKeptBytes));
    this.#free.sort((one, other) => one.byteLength - other.byteLength);
    let bytes = this.#free.reduce((sum, { byteLength }) => sum + byteLength, 0);
    while (this.#free.length > mostKept || bytes > mostKeptBytes) bytes -= this.#free.shift()!.byteLength;
  }
}
