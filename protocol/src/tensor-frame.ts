/**
 * How a job's tensors travel in Redis values and between coordinator and host: one frame per job.
 *
 *   uint32 LE header length | header JSON, padded with spaces | tensor bytes, each starting at a multiple of 8
 *
 * The header is `{"t": [[name, datatype, shape, bytes], ...], "x"?: extra}`. Two jobs with equal headers have equal layouts.
 * Offsets are multiples of 8 **from the start of the frame**: a frame that itself starts at an odd address (a reply inside a larger
 * buffer) gives unaligned tensors, and `alignedView` copies such a tensor before a typed array is laid over it.
 */

import { SwitchyardError } from "./errors.ts";
import { elementBytes, elementCount, isDatatype, type Tensor } from "./tensors.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const alignment = 8;

type FrameEntry = [name: string, datatype: string, shape: number[], sizeBytes: number];

/** Rounds up to the alignment; not by bit masks, which would fail at 2 GiB. */
function padAfter(size: number): number {
  return Math.ceil(size / alignment) * alignment;
}

/**
 * A frame in parts to be written one after another, so that large tensors need no copy. `extra` is any JSON value that travels with them;
 * read it with `frameExtra`.
 */
export function frameParts(tensors: readonly Tensor[], extra?: unknown): Uint8Array[] {
  const parts: Uint8Array[] = [headFor(tensors, extra)];
  for (const { bytes } of tensors) {
    parts.push(bytes);
    const padding = padAfter(bytes.length) - bytes.length;
    if (padding > 0) parts.push(new Uint8Array(padding));
  }
  return parts;
}

/** The head made last for tensors alone: the next frame mostly has the same one. */
let latestHead: { entries: FrameEntry[]; head: Uint8Array } | undefined;

function headFor(tensors: readonly Tensor[], extra: unknown): Uint8Array {
  if (latestHead && extra === undefined && isLaidOutAs(tensors, latestHead.entries)) return latestHead.head;
  const entries = tensors.map(({ bytes, datatype, name, shape }): FrameEntry => [name, datatype, [...shape], bytes.length]);
  if (extra !== undefined) return headOf(JSON.stringify({ t: entries, x: extra }));
  const head = headOf(JSON.stringify({ t: entries }));
  latestHead = { entries, head };
  return head;
}

function isLaidOutAs(tensors: readonly Tensor[], entries: readonly FrameEntry[]): boolean {
  if (tensors.length !== entries.length) return false;
  for (let at = 0; at < tensors.length; at++) {
    const tensor = tensors[at]!;
    const [name, datatype, shape, sizeBytes] = entries[at]!;
    if (tensor.name !== name || tensor.datatype !== datatype || tensor.bytes.length !== sizeBytes) return false;
    if (tensor.shape.length !== shape.length) return false;
    for (let axis = 0; axis < shape.length; axis++) if (tensor.shape[axis] !== shape[axis]) return false;
  }
  return true;
}

/** Heads seen lately: jobs of one model mostly have equal ones. Their bytes are shared and never written again. */
const heads = new Map<string, Uint8Array>();
const mostHeads = 256;
const longestKeptChars = 1_024;

function headOf(json: string): Uint8Array {
  const known = heads.get(json);
  if (known) return known;
  const header = encoder.encode(json);
  const bodyAt = padAfter(4 + header.length);
  const head = new Uint8Array(bodyAt);
  new DataView(head.buffer).setUint32(0, bodyAt - 4, true);
  head.set(header, 4);
  head.fill(0x20, 4 + header.length);
  if (json.length <= longestKeptChars) {
    if (heads.size >= mostHeads) heads.clear();
    heads.set(json, head);
  }
  return head;
}

/** Packs tensors into one frame, which starts at an 8-byte aligned address. */
export function encodeFrame(tensors: readonly Tensor[], extra?: unknown): Uint8Array {
  return joinParts(frameParts(tensors, extra));
}

export function joinParts(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(sizeOf(parts));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}

/** The tensors of a frame as views on it, no copies. Throws `internal` when the frame is truncated or not a frame. */
export function decodeFrame(frame: Uint8Array): Tensor[] {
  const { entries, bodyAt } = readHeader(frame);
  const tensors: Tensor[] = [];
  let at = bodyAt;
  for (const [name, datatype, shape, sizeBytes] of entries) {
    if (!isDatatype(datatype)) throw broken(`datatype ${datatype} is unknown`);
    const width = elementBytes[datatype];
    if (width > 0 && elementCount(shape) * width !== sizeBytes) throw broken(`tensor ${name} does not fill its shape`);
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || at + sizeBytes > frame.length) throw broken(`tensor ${name} is cut off`);
    tensors.push({ name, datatype, shape, bytes: new Uint8Array(frame.buffer, frame.byteOffset + at, sizeBytes) });
    at += padAfter(sizeBytes);
  }
  return tensors;
}

/** A tensor without its bytes. */
export interface FramedTensor {
  name: string;
  datatype: string;
  shape: number[];
  sizeBytes: number;
}

/** What is in a frame, from its beginning alone. Throws `internal` when that does not hold the whole header. */
export function framedTensors(beginning: Uint8Array): FramedTensor[] {
  return readHeader(beginning).entries.map(([name, datatype, shape, sizeBytes]) => ({ name, datatype, shape, sizeBytes }));
}

/** What `encodeFrame` was given as `extra`; undefined when nothing. */
export function frameExtra(frame: Uint8Array): unknown {
  return readHeader(frame).extra;
}

/** The header's text: equal texts mean equal names, datatypes, shapes, sizes and extra. Throws `internal` when truncated. */
export function frameHeader(frame: Uint8Array): string {
  if (frame.length < 4) throw broken(`${frame.length} bytes hold no header length`);
  const size = headerSize(frame);
  if (4 + size > frame.length) throw broken(`the header needs ${size} bytes, ${frame.length - 4} came`);
  try {
    return decoder.decode(frame.subarray(4, 4 + size));
  } catch {
    throw broken("the header is not UTF-8");
  }
}

/** The same bytes at an address that is a multiple of `width` (1, 2, 4 or 8): the view itself if it is, else a copy. */
export function alignedView(bytes: Uint8Array, width: number): Uint8Array {
  return bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
}

interface Header {
  entries: FrameEntry[];
  extra: unknown;
  bodyAt: number;
}

/** The header read last, with its bytes: the next frame mostly has the same one. What it holds is shared and never written. */
let latest: { bytes: Uint8Array; header: Header } | undefined;

function readHeader(frame: Uint8Array): Header {
  if (latest && startsWith(frame, latest.bytes)) return latest.header;
  const header = parseHeader(frame);
  if (header.bodyAt <= longestKeptChars) latest = { bytes: frame.slice(0, header.bodyAt), header };
  return header;
}

function startsWith(frame: Uint8Array, head: Uint8Array): boolean {
  if (frame.length < head.length) return false;
  for (let at = 0; at < head.length; at++) if (frame[at] !== head[at]) return false;
  return true;
}

function parseHeader(frame: Uint8Array): Header {
  const text = frameHeader(frame);
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    throw broken("the header is not JSON");
  }
  if (typeof header !== "object" || header === null || !("t" in header) || !Array.isArray(header.t))
    throw broken("the header lists no tensors");
  for (const entry of header.t) if (!isEntry(entry)) throw broken("the header holds an entry that is no tensor");
  return { entries: header.t, extra: "x" in header ? header.x : undefined, bodyAt: 4 + headerSize(frame) };
}

function headerSize(frame: Uint8Array): number {
  return (frame[0]! | (frame[1]! << 8) | (frame[2]! << 16) | (frame[3]! << 24)) >>> 0;
}

function isEntry(entry: unknown): entry is FrameEntry {
  if (!Array.isArray(entry) || entry.length !== 4) return false;
  const [name, datatype, shape, sizeBytes] = entry;
  if (typeof name !== "string" || typeof datatype !== "string" || typeof sizeBytes !== "number" || !Array.isArray(shape)) return false;
  return shape.every((axis) => Number.isSafeInteger(axis) && axis >= 0);
}

function broken(why: string): SwitchyardError {
  return new SwitchyardError("internal", `A stored tensor frame cannot be read: ${why}`);
}
