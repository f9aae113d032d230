/**
 * Inputs that pass from coordinator to host as a file, where all hosts share a disk with the coordinators: Redis then holds a reference in their
 * place. This file owns what both must agree on: the reference's bytes, which inputs go so, and where a file lies.
 *
 *   ff ff ff ff | "file" | size in bytes, uint64 LE | name of the cluster's folder, 10 characters | who wrote it sees it so, 10 characters
 *
 * The file bears its job's id. As with blobs no tensor frame begins so. A coordinator writes the file of a job that is over again for the next one: it takes the first one's name away before it
 * changes a byte, and gives it the next one's when all are written. So a reader looks once more, when it has read, whether the name still leads to the file as it was.
 */

import { type BlobReference, readBlobReference } from "./blob-reference.ts";
import { SwitchyardError } from "./errors.ts";

export interface InputFileReference {
  /** Ten characters of base32, the same for all jobs of a cluster: clusters may share a disk. */
  folder: string;
  /** `sightMark` of who wrote the file: who has another one does not see it, or its machine has started anew. */
  sight: string;
  sizeBytes: number;
}

/** Smaller frames cost less through Redis than a file that is made, read and removed. */
export const inputFileThresholdBytes: number = 64 * 1024;

/**
 * A file that is whole on the disk says so by its mode. What a power cut leaves of any other is not known, not even where its size is right: part of it may be of the job
 * for which it was written before. It is taken for whole as long as the machine runs on, which `InputFileReference.sight` tells.
 */
export const inputFileModes = {
  written: 0o600,
  whole: 0o400,
  /** The disk failed to take it: nobody reads it any more. */
  unsure: 0o700,
} as const;

const permissions = 0o777;
export const isKnownWhole = (mode: number): boolean => (mode & permissions) === inputFileModes.whole;
export const isUnsynced = (mode: number): boolean => (mode & permissions) === inputFileModes.written;

/** Within the folder of large values. */
export const inputFilesFolder = "inputs";

const mark = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x66, 0x69, 0x6c, 0x65);
const sizeAt = mark.length;
const folderAt = sizeAt + 8;
const nameChars = 10;
const sightAt = folderAt + nameChars;
const referenceBytes = sightAt + nameChars;

export const inputFolderPattern: RegExp = /^[a-z2-7]{10}$/;

export function encodeInputFileReference({ folder, sight, sizeBytes }: InputFileReference): Uint8Array {
  for (const name of [folder, sight])
    if (!inputFolderPattern.test(name)) throw new TypeError(`ten characters of base32 are expected, got ${name}`);
  const bytes = new Uint8Array(referenceBytes);
  bytes.set(mark);
  new DataView(bytes.buffer).setBigUint64(sizeAt, BigInt(sizeBytes), true);
  for (let at = 0; at < nameChars; at++) {
    bytes[folderAt + at] = folder.charCodeAt(at);
    bytes[sightAt + at] = sight.charCodeAt(at);
  }
  return bytes;
}

/** What stands in Redis for a job's inputs: a reference, or undefined when it is the frame itself. Throws `internal` for one that cannot be read. */
export function readInputReference(
  stored: Uint8Array,
): ({ kind: "file" } & InputFileReference) | ({ kind: "blob" } & BlobReference) | undefined {
  if (!mark.every((byte, at) => stored[at] === byte)) {
    const blob = readBlobReference(stored);
    return blob && { kind: "blob", ...blob };
  }
  const folder = String.fromCharCode(...stored.subarray(folderAt, sightAt));
  const sight = String.fromCharCode(...stored.subarray(sightAt));
  if (stored.length !== referenceBytes || !inputFolderPattern.test(folder) || !inputFolderPattern.test(sight))
    throw new SwitchyardError(
      "internal",
      `A stored reference to a file cannot be read: ${stored.length} bytes, expected ${referenceBytes}`,
    );
  return { kind: "file", folder, sight, sizeBytes: Number(new DataView(stored.buffer, stored.byteOffset).getBigUint64(sizeAt, true)) };
}

/**
 * Types of file systems (`statfs`) that outlive their machine, whose files another process on it sees as soon as they are written, and whose calls
 * take no network: a coordinator's turn must not take as long as a server's answer.
 */
const localTypes: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // xfs
  0x9123683e, // btrfs
  0x2fc12fc1, // zfs
  0xf2f52010, // f2fs
  0xca451a4e, // bcachefs
]);

export function isLocalDisk(statfsType: number): boolean {
  return localTypes.has(statfsType);
}

/** The same for all processes of a machine until it starts again, on Linux. */
export const bootIdFile = "/proc/sys/kernel/random/boot_id";

/** Of what coordinators and hosts must agree on beyond this: releases whose number differs hand over nothing here. 2: files are written again. */
const rules = 2;

/**
 * How one process sees a folder: two that tell the same see one folder, not a copy of it, on one machine since its last start. `id` as it stands in the folder, `bootId` as it
 * stands in `bootIdFile`, `dev` and `ino` of the file with the id. The first word is the same after the machine has started anew; a disk may have another number then.
 */
export function sightOfFolder({ id, bootId, dev, ino }: { id: string; bootId: string; dev: number; ino: number }): string {
  return `${rules}:${id.trim()}:${ino} ${bootId.trim()} ${dev}`;
}
