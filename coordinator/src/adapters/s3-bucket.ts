/**
 * A bucket of S3 or of a server that speaks its protocol: the only file that knows the SDK. Keys are relative to the configured prefix. Every
 * request ends: those that carry few bytes within ten seconds, the others when nothing moves any more. Failures become `store_full` or
 * `store_unavailable` for callers, who are told no address; the operator is told what to do.
 */

import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { Readable } from "node:stream";
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from "@aws-sdk/client-s3";
import { SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import { digestOf } from "./unfinished-files.ts";

/** Where a bucket is. Credentials are found by the SDK: variables, profiles, roles. */
export interface BucketPlace {
  bucket: string;
  /** Empty, or without slashes at its ends. */
  prefix: string;
  /** As http://host:port; absent: AWS. */
  endpoint?: string;
  /** Absent: what the SDK finds. */
  region?: string;
  /** Whether the bucket is named in the path and not in the host's name. */
  pathStyle: boolean;
}

export interface BucketEntry {
  key: string;
  sizeBytes: number;
  /** By the server's clock; milliseconds since the epoch. */
  modifiedMs: number;
}

const connectMs = 3_000;
const silentMs = 15_000;
/** For requests without bytes; others have longer by what they send. */
const answerMs = 10_000;
const slowestBytesPerMs = 1_000;
const mostAttempts = 3;
const manySockets = { maxSockets: Number.POSITIVE_INFINITY };
/** Files are sent in pieces of this size, so that one which fails is sent again alone; larger ones where there would be too many. */
const partBytes = 16 << 20;
/** Copied likewise: servers refuse to copy more than 5 GiB at once, and may say nothing until a copy is done. */
const copiedPartBytes = 64 << 20;
const mostParts = 10_000;

/** Of a file or an object, in bytes. */
interface Piece {
  at: number;
  length: number;
}

interface Part {
  Bucket: string;
  Key: string;
  UploadId: string | undefined;
  PartNumber: number;
}

/** What is wrong, in words for whoever configured the bucket. `isAway`: it may pass by itself. */
export interface BucketFault {
  found: string;
  fix: string;
  isAway: boolean;
}

export class S3Bucket {
  readonly #place: BucketPlace;
  readonly #clock: Pick<Clock, "after">;
  readonly #client: S3Client;
  /** Called with the fault when a request fails, with undefined when one succeeds. */
  readonly #onAnswer: (fault: BucketFault | undefined) => void;

  constructor(parts: { place: BucketPlace; clock: Pick<Clock, "after">; onAnswer: (fault: BucketFault | undefined) => void }) {
    const { endpoint, pathStyle, region } = parts.place;
    this.#place = parts.place;
    this.#clock = parts.clock;
    this.#onAnswer = parts.onAnswer;
    this.#client = new S3Client({
      ...(endpoint !== undefined && { endpoint }),
      ...(region !== undefined && { region }),
      forcePathStyle: pathStyle,
      maxAttempts: mostAttempts,
      // sockets are no queue: behind long downloads short requests would run out of time; there are few more than bodies at the doors
      requestHandler: { connectionTimeout: connectMs, socketTimeout: silentMs, httpAgent: manySockets, httpsAgent: manySockets },
      // checksums that many servers do not know yet; every value is checked against its own digest anyway
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
    });
  }

  /** All keys that begin so, in order. */
  async *list(start: string): AsyncGenerator<BucketEntry> {
    let next: string | undefined;
    do {
      const command = new ListObjectsV2Command({ ...this.#under(start), ContinuationToken: next });
      const page = await this.#answer((abortSignal) => this.#client.send(command, { abortSignal }), answerMs);
      for (const { Key, LastModified, Size } of page.Contents ?? []) {
        yield { key: this.#relative(Key ?? ""), sizeBytes: Size ?? 0, modifiedMs: LastModified?.getTime() ?? 0 };
      }
      next = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (next !== undefined);
  }

  /** `sha256` of the bytes, which the server checks. */
  async put(key: string, bytes: Uint8Array, sha256: string): Promise<void> {
    const command = new PutObjectCommand({ ...this.#at(key), Body: bytes, ContentLength: bytes.length });
    nameDigest(command, sha256);
    await this.#answer((abortSignal) => this.#client.send(command, { abortSignal }), answerMs + bytes.length / slowestBytesPerMs);
  }

  /** Writes it if there is nothing under that key; of several who do, one is first. */
  async claim(key: string, text: string): Promise<void> {
    const how = { ...this.#at(key), Body: Buffer.from(text) };
    await this.#answer(async (abortSignal) => {
      try {
        await this.#client.send(new PutObjectCommand({ ...how, IfNoneMatch: "*" }), { abortSignal });
      } catch (error) {
        const status = statusOf(error);
        if (status === 412 || status === 409) return; // another one was first
        if (status !== 501) throw error;
        await this.#client.send(new PutObjectCommand(how), { abortSignal }); // a server without conditions
      }
    }, answerMs);
  }

  /** In pieces, of which one at a time is in memory. What is not finished is removed, here or by `abandonUploads`. */
  async putFile(key: string, file: string, { sha256, sizeBytes }: { sha256: string; sizeBytes: number }): Promise<void> {
    const handle = await open(file);
    try {
      const read = async ({ at, length }: Piece): Promise<Uint8Array> => {
        const bytes = new Uint8Array(length);
        const { bytesRead } = await handle.read(bytes, 0, length, at);
        if (bytesRead !== length) throw new Error(`${bytesRead} bytes were read where ${length} are expected`);
        return bytes;
      };
      if (sizeBytes <= partBytes) return await this.put(key, await read({ at: 0, length: sizeBytes }), sha256);
      await this.#answer(() =>
        this.#inParts({ key, sizeBytes, pieceBytes: partBytes }, async (part, piece) => {
          const Body = await read(piece);
          const command = new UploadPartCommand({ ...part, Body });
          nameDigest(command, await digestOf(Body));
          return (await this.#client.send(command)).ETag;
        }),
      );
    } finally {
      await handle.close();
    }
  }

  /** `send` sends one piece, and answers its tag. */
  async #inParts(
    { key, pieceBytes, sizeBytes }: { key: string; pieceBytes: number; sizeBytes: number },
    send: (part: Part, piece: Piece) => Promise<string | undefined>,
  ): Promise<void> {
    const { UploadId } = await this.#client.send(new CreateMultipartUploadCommand(this.#at(key)));
    const upload = { ...this.#at(key), UploadId };
    const eachBytes = Math.max(pieceBytes, Math.ceil(sizeBytes / mostParts));
    try {
      const Parts: CompletedPart[] = [];
      for (let at = 0; at < sizeBytes; at += eachBytes) {
        const PartNumber = Parts.length + 1;
        const ETag = await send({ ...upload, PartNumber }, { at, length: Math.min(eachBytes, sizeBytes - at) });
        Parts.push({ ETag, PartNumber });
      }
      await this.#client.send(new CompleteMultipartUploadCommand({ ...upload, MultipartUpload: { Parts } }));
    } catch (error) {
      // where the answer to the last request was lost, repeating it finds no upload, but the object
      if (codeOf(error) === "NoSuchUpload" && (await this.#sizeOf(key)) === sizeBytes) return;
      await this.#client.send(new AbortMultipartUploadCommand(upload)).catch(() => {});
      throw error;
    }
  }

  async #sizeOf(key: string): Promise<number | undefined> {
    for await (const entry of this.list(key)) if (entry.key === key) return entry.sizeBytes;
    return undefined;
  }

  /** False when there is nothing to copy. */
  async copy(from: { key: string; sizeBytes: number }, to: string): Promise<boolean> {
    const { sizeBytes } = from;
    const CopySource = [this.#place.bucket, ...this.#full(from.key).split("/")].map(encodeURIComponent).join("/");
    return this.#answer(async () => {
      try {
        if (sizeBytes <= copiedPartBytes) await this.#client.send(new CopyObjectCommand({ ...this.#at(to), CopySource }));
        else {
          await this.#inParts({ key: to, sizeBytes, pieceBytes: copiedPartBytes }, async (part, { at, length }) => {
            const CopySourceRange = `bytes=${at}-${at + length - 1}`;
            const { CopyPartResult } = await this.#client.send(new UploadPartCopyCommand({ ...part, CopySource, CopySourceRange }));
            return CopyPartResult?.ETag;
          });
        }
        return true;
      } catch (error) {
        if (codeOf(error) === "NoSuchKey") return false;
        throw error;
      }
    });
  }

  /** From this byte on, which must be before the last; undefined when there is nothing (any more). */
  async open(key: string, skipBytes = 0): Promise<Readable | undefined> {
    const command = new GetObjectCommand({ ...this.#at(key), ...(skipBytes > 0 && { Range: `bytes=${skipBytes}-` }) });
    const answer = await this.#find((abortSignal) => this.#client.send(command, { abortSignal }), answerMs);
    return answer?.Body as Readable | undefined;
  }

  /** So many bytes as an array of their own; undefined when there are others, or none. */
  async read(key: string, sizeBytes: number): Promise<Uint8Array | undefined> {
    const stream = await this.open(key);
    if (stream === undefined) return undefined;
    return this.#answer(async () => {
      const bytes = new Uint8Array(sizeBytes);
      let at = 0;
      for await (const piece of stream as AsyncIterable<Uint8Array>) {
        if (at + piece.length > sizeBytes) return undefined;
        bytes.set(piece, at);
        at += piece.length;
      }
      return at === sizeBytes ? bytes : undefined;
    });
  }

  /** Of what is there and how much that is, read as a stream; undefined when there is nothing (any more). */
  async digest(key: string): Promise<{ sha256: string; sizeBytes: number } | undefined> {
    const stream = await this.open(key);
    if (stream === undefined) return undefined;
    return this.#answer(async () => {
      const hash = createHash("sha256");
      let sizeBytes = 0;
      for await (const piece of stream as AsyncIterable<Uint8Array>) {
        hash.update(piece);
        sizeBytes += piece.length;
      }
      return { sha256: hash.digest("hex"), sizeBytes };
    });
  }

  /** Also when there is none. */
  async delete(key: string): Promise<void> {
    const command = new DeleteObjectCommand(this.#at(key));
    await this.#find((abortSignal) => this.#client.send(command, { abortSignal }), answerMs);
  }

  /** Removes the pieces of files that were begun before and never finished; answers of how many. */
  async abandonUploads(start: string, beforeMs: number): Promise<number> {
    const command = new ListMultipartUploadsCommand(this.#under(start));
    const page = await this.#answer((abortSignal) => this.#client.send(command, { abortSignal }), answerMs);
    let abandoned = 0;
    for (const { Initiated, Key, UploadId } of page.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || (Initiated?.getTime() ?? 0) >= beforeMs) continue;
      const { bucket: Bucket } = this.#place;
      await this.#find(() => this.#client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId })));
      abandoned++;
    }
    return abandoned;
  }

  close(): void {
    this.#client.destroy();
  }

  #full(key: string): string {
    return this.#place.prefix === "" ? key : `${this.#place.prefix}/${key}`;
  }

  #relative(key: string): string {
    return this.#place.prefix === "" ? key : key.slice(this.#place.prefix.length + 1);
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#place.bucket, Key: this.#full(key) };
  }

  #under(start: string): { Bucket: string; Prefix: string } {
    return { Bucket: this.#place.bucket, Prefix: this.#full(start) };
  }

  /** As #answer; undefined when the server says that there is no such thing. */
  #find<T>(ask: (signal: AbortSignal) => Promise<T>, limitMs?: number): Promise<T | undefined> {
    return this.#answer(async (signal) => {
      try {
        return await ask(signal);
      } catch (error) {
        if (noneCodes.has(codeOf(error))) return undefined;
        throw error;
      }
    }, limitMs);
  }

  /** Without a limit the request ends when nothing moves any more. */
  async #answer<T>(ask: (signal: AbortSignal) => Promise<T>, limitMs?: number): Promise<T> {
    const time = new AbortController();
    const cancelTimer = limitMs === undefined ? () => {} : this.#clock.after(limitMs, () => time.abort());
    try {
      const answer = await ask(time.signal);
      this.#onAnswer(undefined);
      return answer;
    } catch (error) {
      if (error instanceof SwitchyardError) throw error;
      this.#onAnswer(this.#faultOf(error));
      throw asRefusal(error);
    } finally {
      cancelTimer();
    }
  }

  /** In words for the operator: what is wrong, and what to do. */
  #faultOf(error: unknown): BucketFault {
    const { bucket, endpoint } = this.#place;
    const where = endpoint ?? "AWS";
    const [code, status] = [codeOf(error), statusOf(error)];
    const fatal = (found: string, fix: string): BucketFault => ({ found, fix, isAway: false });
    if (code === "NoSuchBucket")
      return fatal(`there is no bucket ${bucket} at ${where}`, "create it, or correct SWITCHYARD_BLOBS (--blobs)");
    if (code === "CredentialsProviderError") {
      return fatal(
        "no credentials were found",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this process a profile or a role",
      );
    }
    if (status === undefined && (error as Error).message === "Region is missing") {
      return fatal("no region is known", "set SWITCHYARD_S3_REGION (--s3-region) or AWS_REGION");
    }
    if (status === 301 || code === "PermanentRedirect" || code === "AuthorizationHeaderMalformed") {
      return fatal(`bucket ${bucket} is in another region (${code})`, "correct SWITCHYARD_S3_REGION (--s3-region)");
    }
    if (code === "AccessDenied" || code === "AllAccessDisabled") {
      const rights =
        "s3:ListBucket, s3:ListBucketMultipartUploads, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload";
      return fatal(`${where} denies access to bucket ${bucket}`, `allow these credentials ${rights} there`);
    }
    if (status === 403) return fatal(`${where} refuses the credentials (${code})`, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    if (status !== undefined && status >= 400 && status < 500 && !passingStatuses.has(status)) {
      const fix = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and whether that is a server of S3";
      return fatal(`${where} refuses what is asked of bucket ${bucket} (${code}, status ${status})`, fix);
    }
    const fix = endpoint === undefined ? "check the network" : "start it, or correct SWITCHYARD_S3_ENDPOINT (--s3-endpoint)";
    return { found: `${where} does not serve bucket ${bucket} (${shownFault(error)})`, fix, isAway: true };
  }
}

/** So that the server checks it, and the SDK does not hash the bytes anew, holding the event loop. */
function nameDigest(command: PutObjectCommand | UploadPartCommand, sha256: string): void {
  const { middlewareStack } = command as PutObjectCommand; // both have the same kind
  middlewareStack.add(
    (next) => (args) => {
      (args.request as { headers: Record<string, string> }).headers["x-amz-content-sha256"] = sha256;
      return next(args);
    },
    { step: "build", name: "knownDigest" },
  );
}

const passingStatuses = new Set([408, 425, 429]);
const noneCodes = new Set(["NoSuchKey", "NoSuchUpload", "NotFound"]);
const fullCodes = new Set(["EntityTooLarge", "QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"]);

/** What callers are told: no address, no key. */
function asRefusal(error: unknown): SwitchyardError {
  const code = codeOf(error);
  if (fullCodes.has(code) || statusOf(error) === 507) {
    return new SwitchyardError("store_full", "the bucket for large values has no room left; try again later", { retryAfterMs: 1_000 });
  }
  const detail = `the bucket for large values cannot be used (${shownFault(error)})`;
  return new SwitchyardError("store_unavailable", detail, { retryAfterMs: 1_000 });
}

function codeOf(error: unknown): string {
  return error instanceof Error ? error.name : "";
}

function statusOf(error: unknown): number | undefined {
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
}

/** A code alone: messages may hold addresses and keys. */
function shownFault(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (codeOf(error) === "AbortError") return "it takes too long";
  return typeof code === "string" ? code : codeOf(error);
}
