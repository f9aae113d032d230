/**
 * Values too large for Redis live in a folder that coordinators own; a short reference stands in Redis in their place. This file owns what
 * coordinators and hosts must agree on: the reference's bytes, the threshold, and where in the folder a value lies.
 *
 *   ff ff ff ff | "blob" | size in bytes, uint64 LE | SHA-256, 32 bytes
 *
 * No tensor frame begins so: a frame's first word is its header's length, which always leaves 4 when divided by 8.
 */

import { SwitchyardError } from "./errors.ts";

export interface BlobReference {
  /** 64 lower-case hexadecimal digits. */
  sha256: string;
  sizeBytes: number;
}

/** Frames larger than this become blobs. */
export const blobThresholdBytes = 8 * 1024 * 1024;

const mark = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x62, 0x6c, 0x6f, 0x62);
const sizeAt = mark.length;
const digestAt = sizeAt + 8;
const referenceBytes = digestAt + 32;

export const sha256Pattern: RegExp = /^[0-9a-f]{64}$/;

export function encodeBlobReference({ sha256, sizeBytes }: BlobReference): Uint8Array {
  if (!sha256Pattern.test(sha256)) throw new TypeError(`a SHA-256 in hexadecimal is expected, got ${sha256}`);
  const bytes = new Uint8Array(referenceBytes);
  bytes.set(mark);
  new DataView(bytes.buffer).setBigUint64(sizeAt, BigInt(sizeBytes), true);
  for (let at = 0; at < 32; at++) bytes[digestAt + at] = Number.parseInt(sha256.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

/** The reference, or undefined when the bytes are a value themselves. Throws `internal` for a reference that is cut off. */
export function readBlobReference(bytes: Uint8Array): BlobReference | undefined {
  for (let at = 0; at < 4; at++) if (bytes[at] !== 0xff) return undefined;
  const isWhole = bytes.length === referenceBytes && mark.every((byte, at) => bytes[at] === byte);
  if (!isWhole)
    throw new SwitchyardError("internal", `A stored reference cannot be read: ${bytes.length} bytes, expected ${referenceBytes}`);
  const sizeBytes = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(sizeAt, true));
  let sha256 = "";
  for (const byte of bytes.subarray(digestAt)) sha256 += byte.toString(16).padStart(2, "0");
  return { sha256, sizeBytes };
}

/**
 * One file of a blob. Its name says how long it may be relied on, and never changes its meaning: to keep a blob longer is to give it one
 * more name, so that deleting an expired name can never take a blob from somebody who has just asked for it to be kept.
 */
export interface BlobFile {
  sha256: string;
  /** Milliseconds since the epoch, whole minutes. */
  expiresMs: number;
}

const minuteMs = 60_000;

/** Two levels of 256 folders each, below the root. */
export function blobFolder(sha256: string): string {
  return `${sha256.slice(0, 2)}/${sha256.slice(2, 4)}`;
}

/** Rounded up to the minute, so that a blob that is kept again and again does not get a name each time. */
export function blobFileName({ sha256, expiresMs }: BlobFile): string {
  return `${sha256}.${Math.ceil(expiresMs / minuteMs)}`;
}

export function readBlobFileName(name: string): BlobFile | undefined {
  const match = /^([0-9a-f]{64})\.(\d{1,12})$/.exec(name);
  return match ? { sha256: match[1] as string, expiresMs: Number(match[2]) * minuteMs } : undefined;
}

/** Where a coordinator writes the folder's id; a host that reads the id of its cluster there shares the folder. */
export const blobFolderIdFile = "folder-id";
/** Where files are written before they get their names. */
export const blobUnfinishedFolder = "unfinished";
