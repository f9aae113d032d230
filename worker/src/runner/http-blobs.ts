/**
 * Large values through a coordinator, for hosts that do not share the coordinators' folder. What coordinators let hosts in by stands in the
 * store, and is asked for each time: nobody has to be told when it changes.
 */

import { type BlobReference, SwitchyardError } from "@switchyard/protocol";
import { type Clock, systemClock } from "../clock.ts";
import type { Blobs } from "./blobs.ts";
import { digestOf } from "./filesystem-blobs.ts";

/** A coordinator that takes longer for one value is given up; the job is tried again. */
const answerMs = 30_000;

export class HttpBlobs implements Blobs {
  readonly #base: string;
  readonly #token: () => Promise<string | null>;
  readonly #clock: Clock;

  /** `url`: any coordinator of the cluster, as http://host:port. `token`: the hosts' credential; null where coordinators ask for none. */
  constructor(url: string, token: () => Promise<string | null>, clock: Clock = systemClock) {
    this.#base = url.replace(/\/+$/, "");
    this.#token = token;
    this.#clock = clock;
  }

  get(reference: BlobReference): Promise<Uint8Array | undefined> {
    return this.#withinTime((signal) => this.#get(reference, signal));
  }

  put(bytes: Uint8Array, how: { keepMs: number }): Promise<BlobReference> {
    return this.#withinTime((signal) => this.#put(bytes, how, signal));
  }

  async #withinTime<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const time = new AbortController();
    const cancelTimer = this.#clock.after(answerMs, () => time.abort(new Error(`it took longer than ${answerMs / 1_000} s`)));
    try {
      return await run(time.signal);
    } finally {
      cancelTimer();
    }
  }

  async #get({ sha256, sizeBytes }: BlobReference, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const answer = await this.#ask(sha256, { signal });
    if (answer.status === 404) {
      await answer.body?.cancel();
      return undefined;
    }
    if (!answer.ok || !answer.body) throw await this.#refused(answer);
    const bytes = new Uint8Array(sizeBytes);
    let at = 0;
    try {
      for await (const piece of answer.body) {
        if (at + piece.length > sizeBytes) return undefined;
        bytes.set(piece, at);
        at += piece.length;
      }
    } catch (error) {
      throw this.#away(error);
    }
    return at === sizeBytes && digestOf(bytes) === sha256 ? bytes : undefined;
  }

  async #put(bytes: Uint8Array, how: { keepMs: number }, signal: AbortSignal): Promise<BlobReference> {
    const sha256 = digestOf(bytes);
    const headers = { "content-type": "application/octet-stream" };
    // frames are never laid over shared memory
    const body = bytes as Uint8Array<ArrayBuffer>;
    const answer = await this.#ask(`${sha256}?keep_ms=${Math.ceil(how.keepMs)}`, { method: "PUT", headers, body, signal });
    if (!answer.ok) throw await this.#refused(answer);
    await answer.body?.cancel();
    return { sha256, sizeBytes: bytes.length };
  }

  async #ask(what: string, request: RequestInit & { headers?: Record<string, string> }): Promise<Response> {
    const token = await this.#token();
    const headers = { ...request.headers, ...(token !== null && { authorization: `Bearer ${token}` }) };
    try {
      return await fetch(`${this.#base}/v1/blobs/${what}`, { ...request, headers });
    } catch (error) {
      throw this.#away(error);
    }
  }

  #away(error: unknown): SwitchyardError {
    const { cause, message } = error as Error;
    const why = cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : message;
    return new SwitchyardError("store_unavailable", `the coordinator at ${this.#base} does not hand over large values: ${why}`);
  }

  async #refused(answer: Response): Promise<SwitchyardError> {
    const text = await answer.text().catch(() => "");
    const code = text.includes('"store_full"') ? "store_full" : "store_unavailable";
    return new SwitchyardError(code, `the coordinator at ${this.#base} answered ${answer.status} for a large value: ${text.slice(0, 200)}`);
  }
}
