/**
 * JSON parts of binary requests that were read lately. The clients of a model send the same one again and again where it holds no id of the request's
 * own, and to parse and check it is most of what a small request costs to read. What is kept here is frozen, for requests share it.
 */

import type { InferRequest } from "./infer-request.ts";
import { elementBytes, type Tensor } from "./tensors.ts";

interface FamiliarHead {
  /** All of the request but its tensors' bytes. */
  request: Omit<InferRequest, "inputs">;
  tensors: readonly Omit<Tensor, "bytes">[];
  /** Of each tensor, in their order. */
  sizesBytes: readonly number[];
  restBytes: number;
}

const mostKept = 256;
const longestBytes = 1_024;

/** Those that were read or asked for of late, and those before them: heads that come only once push out none that come again. */
let recent = new Map<string, FamiliarHead>();
let before = new Map<string, FamiliarHead>();

function keep(key: string, head: FamiliarHead): void {
  if (recent.size >= mostKept) {
    before = recent;
    recent = new Map();
  }
  recent.set(key, head);
}

function found(key: string): FamiliarHead | undefined {
  const head = recent.get(key);
  if (head !== undefined) return head;
  const earlier = before.get(key);
  if (earlier !== undefined) keep(key, earlier);
  return earlier;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }); // one text for the same bytes only

/** Under what a JSON part is kept; undefined where it is too long for that, or no text. */
export function familiarKey(json: Uint8Array): string | undefined {
  if (json.length > longestBytes) return undefined;
  try {
    return decoder.decode(json);
  } catch {
    return undefined;
  }
}

/** The request of a JSON part that was read before, with its tensors as views on `rest`; undefined where it must be read. */
export function familiarRequest(key: string, rest: Uint8Array): InferRequest | undefined {
  const head = found(key);
  if (head === undefined || head.restBytes !== rest.length) return undefined;
  const inputs: Tensor[] = [];
  let at = rest.byteOffset;
  for (let index = 0; index < head.tensors.length; index++) {
    const { datatype, name, shape } = head.tensors[index]!;
    const sizeBytes = head.sizesBytes[index]!;
    inputs.push({ name, datatype, shape, bytes: new Uint8Array(rest.buffer, at, sizeBytes) });
    at += sizeBytes;
  }
  return { ...head.request, inputs };
}

/** Keeps what a JSON part says, if that is all there is to check: of elements of no fixed width the bytes are checked too, and an id is new each time. */
export function keepHead(key: string, { inputs, ...request }: InferRequest, rest: Uint8Array): void {
  const sizesBytes = inputs.map(({ bytes }) => bytes.length);
  const isBinary = sizesBytes.reduce((sum, size) => sum + size, 0) === rest.length;
  if (request.id !== undefined || !isBinary || inputs.some(({ datatype }) => elementBytes[datatype] === 0)) return;
  Object.freeze(request.parameters);
  for (const output of request.outputs ?? []) Object.freeze(output);
  Object.freeze(request.outputs);
  const tensors = inputs.map(({ datatype, name, shape }) => ({ name, datatype, shape: Object.freeze(shape) as number[] }));
  keep(key, { request, tensors, sizesBytes, restBytes: rest.length });
}
