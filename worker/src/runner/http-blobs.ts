/**
 * Large values through a coordinator, for hosts that do not share the coordinators' folder. What coordinators let hosts in by stands in the
 * store, and is asked for each time: nobody has to be told when it changes.
 */

import { open, rm, stat } from "node:fs/promises";
import { type BlobReference, SwitchyardError } from "@switchyard/protocol";
import { type Clock, systemClock } from "../clock.ts";
import type { Blobs } from "./blobs.ts";
import { digestOf, digestOfFile } from "./filesystem-blobs.ts";

/** A coordinator that takes longer for one value is given up; the job is tried again. */
const answerMs = 30_000;
/** Requests for a file that brought nothing, one after the other, before it is given up; with pauses that double. */
const mostStuck = 4;
const stuckMs = 100;

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

  /**
   * Puts the bytes into a file, checked, and goes on with what is there of them. Tries again while the coordinator goes on sending; a file with
   * other bytes is removed. Throws SwitchyardError, and what the file system says as it is.
   */
  async download(reference: BlobReference, path: string): Promise<void> {
    const { sha256, sizeBytes } = reference;
    for (let [at, stuck] = [await sizeOf(path), 0]; at < sizeBytes; ) {
      const before = at;
      try {
        await this.#append(reference, path, at);
      } catch (error) {
        stuck = (await sizeOf(path)) > before ? 0 : stuck + 1;
        if (stuck === mostStuck || !(error instanceof SwitchyardError) || error.code === "not_found") throw error;
        await this.#clock.sleep(stuckMs * 2 ** stuck);
      }
      at = await sizeOf(path);
    }
    if ((await digestOfFile(path)) === sha256) return;
    await rm(path, { force: true });
    throw new SwitchyardError("store_unavailable", `the coordinator at ${this.#base} handed over other bytes than those of ${sha256}`);
  }

  /** One request, from this byte on. */
  async #append({ sha256, sizeBytes }: BlobReference, path: string, skipBytes: number): Promise<void> {
    const silence = new AbortController();
    const listen = (): (() => void) =>
      this.#clock.after(answerMs, () => silence.abort(new Error(`it was silent for ${answerMs / 1_000} s`)));
    let heard = listen();
    try {
      const answer = await this.#ask(sha256, { signal: silence.signal, headers: skipBytes > 0 ? { range: `bytes=${skipBytes}-` } : {} });
      if (answer.status === 404) throw new SwitchyardError("not_found", `the coordinator at ${this.#base} has no file ${sha256}`);
      if (!answer.ok || !answer.body) throw await this.#refused(answer);
      const isRest = answer.status === 206;
      const file = await open(path, isRest ? "a" : "w");
      let at = isRest ? skipBytes : 0;
      try {
        for await (const piece of answer.body) {
          heard();
          heard = listen();
          at += piece.length;
          if (at > sizeBytes) throw new SwitchyardError("store_unavailable", `more than ${sizeBytes} bytes came for ${sha256}`);
          await file.writeFile(piece);
        }
      } finally {
        await file.close();
      }
    } catch (error) {
      // no fault of the coordinator: the disk is full, say
      const isOfFile = "syscall" in (error as Error);
      throw error instanceof SwitchyardError || isOfFile ? error : this.#away(error);
    } finally {
      heard();
    }
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

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}
