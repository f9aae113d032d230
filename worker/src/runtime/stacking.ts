/**
 * Many jobs in one run: their tensors laid one after the other along the first axis, and the outputs cut apart again. Pure but for
 * the scratch memory that it fills. Every copy of the batching path is made here, once.
 */

import { elementBytes, elementCount, SwitchyardError, type Tensor } from "@switchyard/protocol";

/** Larger buffers are not kept between runs: one rare giant batch must not hold memory for good. */
const largestKeptBytes = 64 * 1024 * 1024;

/** Where stacked inputs are laid. */
export interface BatchMemory {
  take(name: string, sizeBytes: number): Uint8Array;
}

/** Of a model whose inputs are laid side by side while others of its are being read: each batch gets memory of its own. */
export const freshMemory: BatchMemory = { take: (_name, sizeBytes) => new Uint8Array(sizeBytes) };

/**
 * Memory that stacked inputs are laid in, one buffer per input, used again by the next run. Owned by one model; what `stack`
 * answered is valid until the next `stack` with the same scratch.
 */
export class Scratch implements BatchMemory {
  readonly #buffers = new Map<string, Uint8Array>();

  take(name: string, sizeBytes: number): Uint8Array {
    const kept = this.#buffers.get(name);
    if (kept && kept.length >= sizeBytes) return kept.subarray(0, sizeBytes);
    // A quarter more than asked for, so that batches that grow by one do not allocate each time.
    const fresh = new Uint8Array(Math.ceil((sizeBytes * 1.25) / 8) * 8);
    if (fresh.length <= largestKeptBytes) this.#buffers.set(name, fresh);
    return fresh.subarray(0, sizeBytes);
  }
}

/** Each memory once that tensors lie in. */
export function buffersOf(tensors: readonly Tensor[]): ArrayBuffer[] {
  return [...new Set(tensors.map(({ bytes }) => bytes.buffer as ArrayBuffer))];
}

/** Inputs or outputs that cannot be laid along one first axis. `faultOf` tells whether this batch or the model itself is to blame. */
export class NotStackable extends SwitchyardError {
  readonly faultOf: "jobs" | "model";

  constructor(detail: string, faultOf: "jobs" | "model" = "jobs") {
    super("run_failed", detail);
    this.faultOf = faultOf;
  }
}

/**
 * One tensor per input, first axis = sum of the jobs' first axes. All jobs must be of one class: same inputs, datatypes and
 * other axes; within a job all inputs share the first axis. Throws NotStackable, naming tensor and job, when they are not.
 * One job alone comes back as it is, without a copy.
 */
export function stack(jobs: readonly (readonly Tensor[])[], scratch: BatchMemory): readonly Tensor[] {
  const first = jobs[0];
  if (first === undefined) throw new NotStackable("no jobs to stack");
  if (jobs.length === 1) return first;
  for (const [index, job] of jobs.entries()) {
    if (job.length !== first.length) throw new NotStackable(`job ${index} has ${job.length} inputs, job 0 has ${first.length}`);
    for (const input of job) {
      if (input.shape.length === 0) throw new NotStackable(`input '${input.name}' of job ${index} is a scalar`);
      if (input.shape[0] !== job[0]!.shape[0]) {
        const axes = `${input.shape[0]}, '${job[0]!.name}' ${job[0]!.shape[0]}`;
        throw new NotStackable(`the inputs of job ${index} differ in their first axis: '${input.name}' has ${axes}`);
      }
    }
  }
  return first.map((input, place) => {
    const parts = jobs.map((job, index) => partLike(input, { job, index, place }));
    return concatenate(parts, scratch);
  });
}

function partLike(input: Tensor, from: { job: readonly Tensor[]; index: number; place: number }): Tensor {
  const { job, index, place } = from;
  const part = job[place]?.name === input.name ? job[place] : job.find((other) => other.name === input.name);
  if (part === undefined) throw new NotStackable(`job ${index} has no input '${input.name}'`);
  if (part.datatype !== input.datatype || !sameItemShape(part.shape, input.shape)) {
    throw new NotStackable(`input '${input.name}' of job ${index} is ${typeText(part)}, of job 0 ${typeText(input)}`);
  }
  return part;
}

/** BYTES elements carry their lengths, so that they too are stacked by laying bytes side by side. */
function concatenate(parts: readonly Tensor[], scratch: BatchMemory): Tensor {
  const { name, datatype, shape } = parts[0]!;
  let sizeBytes = 0;
  let items = 0;
  for (const part of parts) {
    sizeBytes += part.bytes.length;
    items += part.shape[0]!;
  }
  const bytes = scratch.take(name, sizeBytes);
  let at = 0;
  for (const part of parts) {
    bytes.set(part.bytes, at);
    at += part.bytes.length;
  }
  return { name, datatype, shape: [items, ...shape.slice(1)], bytes };
}

/**
 * Per job its share of every output, as views on the outputs' bytes: a job's share keeps the whole run's output in memory while it
 * is held. The first axis of each output must be the sum of `itemsPerJob`, else NotStackable names the output.
 */
export function split(outputs: readonly Tensor[], itemsPerJob: readonly number[]): Tensor[][] {
  const shares: Tensor[][] = itemsPerJob.map(() => []);
  let items = 0;
  for (const count of itemsPerJob) items += count;
  for (const output of outputs) {
    const { name, datatype, shape, bytes } = output;
    if (shape.length === 0 || shape[0] !== items) {
      const detail = `output '${name}' has shape [${shape}] after a run of ${items} items; its first axis should be ${items}`;
      throw new NotStackable(detail, "model");
    }
    const itemShape = shape.slice(1);
    const itemElements = elementCount(itemShape);
    let at = 0;
    for (const [job, count] of itemsPerJob.entries()) {
      const end =
        datatype === "BYTES" ? endOfElements(bytes, at, count * itemElements) : at + count * itemElements * elementBytes[datatype];
      shares[job]!.push({ name, datatype, shape: [count, ...itemShape], bytes: bytes.subarray(at, end) });
      at = end;
    }
  }
  return shares;
}

function endOfElements(bytes: Uint8Array, from: number, count: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = from;
  for (let element = 0; element < count; element += 1) at += 4 + view.getUint32(at, true);
  return at;
}

function sameItemShape(left: readonly number[], right: readonly number[]): boolean {
  if (left.length !== right.length) return false;
  for (let axis = 1; axis < left.length; axis += 1) if (left[axis] !== right[axis]) return false;
  return true;
}

function typeText(tensor: Tensor): string {
  return `${tensor.datatype} [${tensor.shape}]`;
}
