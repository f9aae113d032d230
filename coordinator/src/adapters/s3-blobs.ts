/**
 * The blob store in a bucket. Below `blobs/<sha256>/` lie the bytes, under a name of their own for each time that they were written, which says
 * until when they are kept, and empty marks that say that they are kept longer:
 *
 *   data.<write>.<minute>   the bytes
 *   kept.<minute>           all of them stay until then
 *   leaving.<write>         a sweep is about to delete these
 *
 * A bucket cannot delete on a condition, so whoever keeps and whoever deletes each write first and look then: a keeper writes its mark and relies
 * on bytes that are not leaving; a sweep writes `leaving`, and deletes when there is no mark that lasts. At least one of them sees the other.
 * Bytes that are leaving are never relied on again; they are copied or written anew. No mark is ever prolonged.
 */

import { randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { unlink } from "node:fs/promises";
import path from "node:path";
import { Readable } from "node:stream";
import { type BlobReference, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { Log } from "../ports/log.ts";
import { type BucketEntry, type BucketFault, type BucketPlace, S3Bucket } from "./s3-bucket.ts";
import { asStoreFault, checkReceived, digestOf, orGone, UnfinishedFiles, unfinishedMs } from "./unfinished-files.ts";

/** Bytes live this much longer: what each machine knows of the shared clock is a little off, more so while its owner is away. */
const clockMarginMs = 60_000;
const minuteMs = 60_000;
/** What is kept again and again gets no mark each time: ends are rounded up by at most this share of the time. */
const roundingShare = 1 / 16;
/** A large file may be on its way for hours, and the bucket's own clock says since when. */
const abandonedMs = 86_400_000;
const sweptTogether = 16;
const blobsFolder = "blobs/";
const idKey = "store-id";
const emptySha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** One writing of the bytes. */
interface Writing {
  id: string;
  key: string;
  sizeBytes: number;
  expiresMs: number;
  isLeaving: boolean;
}

/** All that is there of one blob. */
interface Holding {
  sha256: string;
  writings: Writing[];
  marks: { key: string; expiresMs: number }[];
  /** Of a writing that may be gone. */
  leaving: { id: string; key: string; modifiedMs: number }[];
  /** Until when a mark or a writing keeps all of it. */
  expiresMs: number;
}

export class S3Blobs implements BlobStore {
  readonly #bucket: S3Bucket;
  readonly #unfinished: UnfinishedFiles;
  readonly #folder: string;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #log: Log;
  #fault: BucketFault | undefined;

  /** `folder`: on this machine, for files while they come. `clock`: its time is the one that all who write to the bucket share. */
  constructor(parts: { place: BucketPlace; folder: string; clock: Pick<Clock, "after" | "nowMs">; log: Log }) {
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#folder = parts.folder;
    this.#unfinished = new UnfinishedFiles(parts.folder);
    this.#bucket = new S3Bucket({ place: parts.place, clock: parts.clock, onAnswer: (fault) => this.#noteFault(fault) });
  }

  /** Does all that this store does once, and answers why it cannot. */
  async check(): Promise<BucketFault | undefined> {
    const key = `check.${newId()}`;
    try {
      await this.id();
      await this.#bucket.put(key, new Uint8Array(), emptySha256);
      await this.#bucket.delete(key);
      await this.#bucket.abandonUploads(blobsFolder, 0);
      return undefined;
    } catch (error) {
      return this.#fault ?? { found: (error as Error).message, fix: "see the log", isAway: false };
    }
  }

  put(bytes: Uint8Array, how: { keepMs: number }): Promise<BlobReference> {
    return this.#translated(async () => {
      const expiresMs = this.#endOf(how.keepMs);
      const reference = { sha256: await digestOf(bytes), sizeBytes: bytes.length };
      if (await this.#prolong(reference, expiresMs)) return reference;
      await this.#bucket.put(newWriting(reference.sha256, expiresMs), bytes, reference.sha256);
      return reference;
    });
  }

  keep(reference: BlobReference, { fromMs, keepMs }: { keepMs: number; fromMs?: number }): Promise<boolean> {
    return this.#translated(async () => {
      const expiresMs = this.#endOf(keepMs, fromMs);
      if (await this.#prolong(reference, expiresMs)) return true;
      for (const writing of rightWritings(await this.#look(reference.sha256), reference)) {
        if (await this.#bucket.copy(writing, newWriting(reference.sha256, expiresMs))) return true;
      }
      return false;
    });
  }

  receive(stream: AsyncIterable<Uint8Array>, how: Parameters<BlobStore["receive"]>[1]): Promise<BlobReference> {
    return this.#translated(async () => {
      const { file, sha256, sizeBytes } = await this.#unfinished.write(stream);
      const reference = { sha256, sizeBytes };
      try {
        checkReceived({ sha256, announced: how.sha256 });
        await how.inspect?.({ file, ...reference, read: () => createReadStream(file) });
        // from now on, not from the first byte on, which may be longer ago than it is kept
        const damaged = await this.#damagedOf(sha256);
        const expiresMs = Math.max(this.#endOf(how.keepMs), damaged.expiresMs);
        if (damaged.writings.length === 0 && (await this.#prolong(reference, expiresMs))) return reference;
        await this.#bucket.putFile(newWriting(sha256, expiresMs), file, reference);
        for (const { key } of damaged.writings) await this.#bucket.delete(key);
        // what took long has an end that may have passed
        if (this.#endOf(how.keepMs) <= expiresMs || (await this.keep(reference, how))) return reference;
        throw new SwitchyardError("store_unavailable", "the bucket for large values lost what it was sent", { retryAfterMs: 1_000 });
      } finally {
        await orGone(unlink(file));
      }
    });
  }

  async get(reference: BlobReference): Promise<Uint8Array | undefined> {
    for (const writing of (await this.#look(reference.sha256)).writings) {
      const bytes = await this.#readRight(reference, writing);
      if (bytes) return bytes;
      // what came may have been damaged on the way, and this may be the only copy: it is read once more before it is given up
      if (!(await this.#isDamaged(reference.sha256, writing))) {
        const again = await this.#readRight(reference, writing);
        if (again) return again;
      } else await this.#bucket.delete(writing.key); // the next put of the same bytes writes them anew
    }
    return undefined;
  }

  async #readRight({ sha256, sizeBytes }: BlobReference, writing: Writing): Promise<Uint8Array | undefined> {
    const bytes = writing.sizeBytes === sizeBytes ? await this.#bucket.read(writing.key, sizeBytes) : undefined;
    return bytes && (await digestOf(bytes)) === sha256 ? bytes : undefined;
  }

  /** For one who has the bytes, and sends them again perhaps for that. `expiresMs`: until when they would have been kept. */
  async #damagedOf(sha256: string): Promise<Pick<Holding, "writings" | "expiresMs">> {
    const { expiresMs, writings } = await this.#look(sha256);
    const damaged: Writing[] = [];
    for (const writing of writings) if (await this.#isDamaged(sha256, writing)) damaged.push(writing);
    return { writings: damaged, expiresMs: damaged.length > 0 ? expiresMs : 0 };
  }

  /** Whether all that the listing shows came, and was something else, whatever a reference says of its size. */
  async #isDamaged(sha256: string, { key, sizeBytes }: Writing): Promise<boolean> {
    const found = await this.#bucket.digest(key);
    return found !== undefined && found.sizeBytes === sizeBytes && found.sha256 !== sha256;
  }

  async open(sha256: string, skipBytes = 0): Promise<{ sizeBytes: number; stream: AsyncIterable<Uint8Array> } | undefined> {
    for (const { key, sizeBytes } of (await this.#look(sha256)).writings) {
      const stream = skipBytes < sizeBytes ? await this.#bucket.open(key, skipBytes) : Readable.from([]);
      if (stream) return { sizeBytes, stream };
    }
    return undefined;
  }

  /** A bucket answers a write when it is safe. */
  sync(): Promise<void> {
    return Promise.resolve();
  }

  async sweep(nowMs: number): Promise<{ deleted: number }> {
    let deleted = await this.#unfinished.sweep();
    deleted += await this.#bucket.abandonUploads(blobsFolder, nowMs - abandonedMs);
    let together: Holding[] = [];
    const sweepThem = async (): Promise<void> => {
      for (const count of await Promise.all(together.map((holding) => this.#sweepOne(holding, nowMs)))) deleted += count;
      together = [];
    };
    for await (const holding of this.#holdings()) {
      together.push(holding);
      if (together.length === sweptTogether) await sweepThem();
    }
    await sweepThem();
    return { deleted };
  }

  /** Of all blobs, as the listing shows them. */
  async *#holdings(): AsyncGenerator<Holding> {
    let sha256 = "";
    let found: BucketEntry[] = [];
    for await (const entry of this.#bucket.list(blobsFolder)) {
      const of = entry.key.slice(blobsFolder.length).split("/", 1)[0] as string;
      if (of !== sha256) {
        if (found.length > 0) yield holdingOf(sha256, found);
        sha256 = of;
        found = [];
      }
      found.push(entry);
    }
    if (found.length > 0) yield holdingOf(sha256, found);
  }

  /** Answers how many writings it deleted. */
  async #sweepOne(seen: Holding, nowMs: number): Promise<number> {
    const { sha256 } = seen;
    const isOver = (expiresMs: number): boolean => expiresMs + clockMarginMs <= nowMs;
    if (!isOver(seen.expiresMs)) {
      for (const { expiresMs, key } of seen.marks) if (isOver(expiresMs)) await this.#bucket.delete(key);
      return 0;
    }
    const leaving = new Set(seen.writings.map(({ id }) => id));
    for (const { id, isLeaving } of seen.writings) {
      if (!isLeaving) await this.#mark(`${blobsFolder}${sha256}/leaving.${id}`);
    }
    const now = leaving.size > 0 ? await this.#look(sha256) : seen;
    if (!isOver(now.expiresMs)) return 0; // somebody has just asked for it to be kept
    let deleted = 0;
    for (const { id, key } of now.writings) {
      if (!leaving.has(id)) continue; // written since, and over already
      await this.#bucket.delete(key);
      deleted++;
    }
    for (const { key } of now.marks) await this.#bucket.delete(key);
    // later: who looks while this goes on may see the bytes still
    for (const { id, key, modifiedMs } of seen.leaving) {
      if (!leaving.has(id) && modifiedMs + unfinishedMs < nowMs) await this.#bucket.delete(key);
    }
    return deleted;
  }

  async id(): Promise<string> {
    const known = await this.#readId();
    if (known !== undefined) return known;
    await this.#bucket.claim(idKey, newId() + newId());
    return (await this.#readId()) ?? ""; // whoever was first named it
  }

  async #readId(): Promise<string | undefined> {
    const stream = await this.#bucket.open(idKey);
    if (stream === undefined) return undefined;
    const pieces: Uint8Array[] = [];
    for await (const piece of stream) pieces.push(piece as Uint8Array);
    return Buffer.concat(pieces).toString();
  }

  close(): void {
    this.#bucket.close();
  }

  #endOf(keepMs: number, fromMs = 0): number {
    const grainMs = Math.max(minuteMs, 2 ** Math.floor(Math.log2(Math.max(1, (keepMs * roundingShare) / minuteMs))) * minuteMs);
    return Math.ceil((Math.max(fromMs, this.#clock.nowMs()) + keepMs) / grainMs) * grainMs;
  }

  async #look(sha256: string): Promise<Holding> {
    const found: BucketEntry[] = [];
    for await (const entry of this.#bucket.list(`${blobsFolder}${sha256}/`)) found.push(entry);
    return holdingOf(sha256, found);
  }

  /** Makes bytes that are there live until then; false when they must be written. */
  async #prolong(reference: BlobReference, expiresMs: number): Promise<boolean> {
    const isThere = (holding: Holding): boolean => rightWritings(holding, reference).some(({ isLeaving }) => !isLeaving);
    const holding = await this.#look(reference.sha256);
    if (!isThere(holding)) return false;
    if (holding.expiresMs >= expiresMs) return true;
    await this.#mark(`${blobsFolder}${reference.sha256}/kept.${expiresMs / minuteMs}`);
    return isThere(await this.#look(reference.sha256));
  }

  #mark(key: string): Promise<void> {
    return this.#bucket.put(key, new Uint8Array(), emptySha256);
  }

  #noteFault(fault: BucketFault | undefined): void {
    if (fault && !this.#fault) this.#log.warn("blob_store_failed", { message: `${fault.found}: ${fault.fix}` });
    if (!fault && this.#fault) this.#log.info("blob_store_answers");
    this.#fault = fault;
  }

  async #translated<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw asStoreFault(error, { root: path.dirname(this.#folder), what: "the folder for large values that are under way" });
    }
  }
}

function newId(): string {
  return randomBytes(8).toString("hex");
}

function newWriting(sha256: string, expiresMs: number): string {
  return `${blobsFolder}${sha256}/data.${newId()}.${expiresMs / minuteMs}`;
}

function rightWritings({ writings }: Holding, { sizeBytes }: BlobReference): Writing[] {
  return writings.filter((writing) => writing.sizeBytes === sizeBytes);
}

/** Those first that are not leaving. */
function holdingOf(sha256: string, found: readonly BucketEntry[]): Holding {
  const holding: Holding = { sha256, writings: [], marks: [], leaving: [], expiresMs: 0 };
  for (const { key, modifiedMs, sizeBytes } of found) {
    const [kind, id = "", minute = ""] = key.slice(key.lastIndexOf("/") + 1).split(".");
    if (kind === "leaving") holding.leaving.push({ id, key, modifiedMs });
    else if (kind === "data") holding.writings.push({ id, key, sizeBytes, expiresMs: Number(minute) * minuteMs, isLeaving: false });
    else if (kind === "kept") holding.marks.push({ key, expiresMs: Number(id) * minuteMs });
  }
  for (const writing of holding.writings) writing.isLeaving = holding.leaving.some(({ id }) => id === writing.id);
  holding.writings.sort((one, other) => Number(one.isLeaving) - Number(other.isLeaving));
  holding.expiresMs = Math.max(0, ...[...holding.writings, ...holding.marks].map(({ expiresMs }) => expiresMs));
  return holding;
}
