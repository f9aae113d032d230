/**
 * Reads one version's files: the ONNX file once, whole, hashed while it arrives, then its external weights as streams.
 * Says also when the files look half-written, so that nobody takes them for a version's content.
 */

import { createHash, type Hash } from "node:crypto";
import { statSync } from "node:fs";
import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { isAbsolute, join, sep } from "node:path";
import { type ModelSignature, SwitchyardError } from "@switchyard/protocol";
import { readGraph } from "@switchyard/protocol/onnx";

/** What must be equal for a file to count as unchanged. */
export interface Fingerprint {
  size: number;
  modifiedMs: number;
  inode: number;
}

/**
 * Undefined while there is no such file. Synchronous, because a rescan asks this of every file: a promise each costs four times the
 * processor time (75 against 18 ms for 6,000 files). Callers let the event loop turn in between.
 */
export function fingerprintOf(path: string): Fingerprint | undefined {
  try {
    const status = statSync(path, { throwIfNoEntry: false });
    return status && { size: status.size, modifiedMs: status.mtimeMs, inode: status.ino };
  } catch {
    return undefined;
  }
}

export function sameFingerprint(one: Fingerprint | undefined, other: Fingerprint | undefined): boolean {
  return one?.size === other?.size && one?.modifiedMs === other?.modifiedMs && one?.inode === other?.inode;
}

/** True while none of the files has changed, come or gone. */
export function filesHold(files: ReadonlyMap<string, Fingerprint | undefined>): boolean {
  for (const [path, before] of files) if (!sameFingerprint(fingerprintOf(path), before)) return false;
  return true;
}

export interface ModelFile {
  /** SHA-256 of the ONNX file, followed by its external weights in name order, hex. Of a file over 2 GiB: of its size, in digits. */
  digest: string;
  /** External weights included. */
  sizeBytes: number;
  /** Empty when there is a failure. */
  signature: ModelSignature;
  /** Why the file cannot be served. */
  failure?: string;
  /** Every file that the digest covers, by absolute path, as it was when read. A missing one is undefined. */
  files: Map<string, Fingerprint | undefined>;
  /** A file changed while it was read: the digest covers no content that ever was. */
  unsettled: boolean;
}

/** A protobuf message, and so an ONNX file without its external weights, cannot be larger. */
const largestGraphBytes = 2 ** 31 - 1;
const chunkBytes = 1 << 20;

/** `path` is the ONNX file, which stands in `folder` (real path); external weights must stand in that folder too. */
export async function readModelFile(path: string, folder: string): Promise<ModelFile> {
  const hash = createHash("sha256");
  const read: ModelFile = { digest: "", sizeBytes: 0, signature: { inputs: [], outputs: [] }, files: new Map(), unsettled: false };
  try {
    const bytes = await readGraphBytes(path, hash, read);
    const graph = readGraph(bytes);
    for (const name of graph.externalFiles) await readExternal(name, folder, hash, read);
    read.signature = graph.signature;
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    read.failure = error.message;
  }
  read.digest = hash.digest("hex");
  return read;
}

async function readGraphBytes(path: string, hash: Hash, read: ModelFile): Promise<Uint8Array> {
  const fingerprint = fingerprintOf(path);
  if (fingerprint === undefined || fingerprint.size <= largestGraphBytes) return (await readHashed(path, hash, read, { keep: true }))!;
  // It can never be served, so its bytes are not worth minutes of hashing: its size stands for them.
  read.files.set(path, fingerprint);
  read.sizeBytes = fingerprint.size;
  hash.update(String(fingerprint.size));
  throw refusal(`larger than 2 GiB (${fingerprint.size} bytes); keep its weights in external data`);
}

async function readExternal(name: string, folder: string, hash: Hash, read: ModelFile): Promise<void> {
  const path = join(folder, name);
  const named = `external weights ${JSON.stringify(name)}`;
  if (name === "" || isAbsolute(name) || !isInside(path, folder)) throw refusal(`${named} lie outside the version's folder`);
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) {
    read.files.set(path, undefined);
    throw refusal(`${named} are missing`);
  }
  if (!isInside(real, folder)) throw refusal(`${named} lie outside the version's folder`);
  if (!(await stat(real)).isFile()) throw refusal(`${named} are no file`);
  await readHashed(path, hash, read, { keep: false });
}

function refusal(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", detail);
}

/** Both are real or at least normal paths. */
export function isInside(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

/**
 * Feeds the file to the hash in small pieces, so that the event loop turns while large files are read, and notes whether it changed meanwhile.
 * Answers the bytes if they are to be kept.
 */
async function readHashed(path: string, hash: Hash, read: ModelFile, { keep }: { keep: boolean }): Promise<Uint8Array | undefined> {
  const handle = await open(path);
  try {
    const { size, mtimeMs, ino } = await handle.stat();
    const before = { size, modifiedMs: mtimeMs, inode: ino };
    const kept = keep ? Buffer.allocUnsafeSlow(size) : undefined;
    const length = await hashThrough(handle, hash, size, kept);
    if (length !== size || !sameFingerprint(fingerprintOf(path), before)) read.unsettled = true;
    read.files.set(path, before);
    read.sizeBytes += length;
    return kept?.subarray(0, length);
  } finally {
    await handle.close();
  }
}

async function hashThrough(handle: FileHandle, hash: Hash, size: number, kept: Buffer | undefined): Promise<number> {
  const piece = kept ?? Buffer.allocUnsafeSlow(Math.min(chunkBytes, Math.max(1, size)));
  let position = 0;
  while (position < size) {
    const at = kept ? position : 0;
    const { bytesRead } = await handle.read(piece, at, Math.min(chunkBytes, size - position), position);
    if (bytesRead === 0) break;
    hash.update(piece.subarray(at, at + bytesRead));
    position += bytesRead;
  }
  return position;
}
