/**
 * Where values live that are too large for Redis, named by their SHA-256. Coordinators of one cluster share one store. Values never change
 * and are never deleted before the time for which they were last put; putting the same bytes again only ever prolongs that time. All who share
 * a store name and compare such times by one clock, that of Redis: clocks of their machines need not agree.
 * Failures: `store_full` when there is no room, `store_unavailable` when the store cannot be used.
 */

import type { BlobReference } from "@switchyard/protocol";

/** Bytes that have come whole and are not kept yet, as a file that nobody else changes. */
export interface UnfinishedBlob extends BlobReference {
  file: string;
  read(): AsyncIterable<Uint8Array>;
}

export interface BlobStore {
  put(bytes: Uint8Array, how: { keepMs: number }): Promise<BlobReference>;
  /** As `put`, of bytes that are there; false when they are gone. */
  keep(reference: BlobReference, how: { keepMs: number; fromMs?: number }): Promise<boolean>;
  /**
   * As `put`, from a stream that is never held whole. Throws `invalid_request` when the bytes have another digest than the one that is given,
   * and what `inspect` throws, which may look at them as a file before they are kept; then nothing is kept.
   */
  receive(
    stream: AsyncIterable<Uint8Array>,
    how: { keepMs: number; sha256?: string; inspect?: (unfinished: UnfinishedBlob) => Promise<void> },
  ): Promise<BlobReference>;
  /** The bytes, checked against size and digest, at an 8-byte aligned address; undefined when they are gone or damaged. */
  get(reference: BlobReference): Promise<Uint8Array | undefined>;
  /** The bytes as a stream, unchecked, without the first `skipBytes`; undefined when they are gone. `sizeBytes`: of all of them. */
  open(sha256: string, skipBytes?: number): Promise<{ sizeBytes: number; stream: AsyncIterable<Uint8Array> } | undefined>;
  /** Resolves when the bytes and their name are on the disk, whoever put them. */
  sync(reference: BlobReference): Promise<void>;
  /**
   * Deletes what had expired at `nowMs`, and what was never finished. By the shared clock, as its owner was asked: what is told from this machine's
   * would be wrong just after that one was set.
   */
  sweep(nowMs: number): Promise<{ deleted: number }>;
  /** The same for all who share the store, and for nobody else. */
  id(): Promise<string>;
}
