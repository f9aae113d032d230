/**
 * Large values through a coordinator, for hosts that do not share the coordinators' folder. What coordinators let hosts in by stands in the
 * store, and is asked for each time: nobody has to be told when it changes. Who waits for a job reads what its errors say, so they name neither
 * the coordinator's address nor what it answered: the host's log has that.
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

/** Why a request was given up, in words that anybody may read. */
class TooLate extends Error {}

export class HttpBlobs implements Blobs {
  readonly #base: string;
  readonly #token: () => Promise<string | null>;
  readonly #clock: Clock;
  readonly #trouble: (message: string) => void;

  /**
   * `url`: any coordinator of the cluster, as http://host:port. `token`: the hosts' credential; null where coordinators ask for none. `trouble` hears all
   * that is known of a failure, for the log.
   */
  constructor(
    url: string,
    token: () => Promise<string | null>,
    { clock = systemClock, trouble = () => {} }: { clock?: Clock; trouble?: (message: string) => void } = {},
  ) {
    this.#base = url.replace(/\/+$/, "");
    this.#token = token;
    this.#clock = clock;
    this.#trouble = trouble;
  }

  get(reference: BlobReference): Promise<Uint8Array | undefined> {
    return this.#withinTime((signal) => this.#get(reference, signal));
  }

  /**
   * Puts the bytes into a file, checked, and goes on with what is there of them. Tries again while the coordinator goes on sending: as long as the file
   * grows beyond what it ever was. A file with other bytes is removed. Throws SwitchyardError, and what the file system says as it is.
   */
  async download(reference: BlobReference, path: string): Promise<void> {
    const { sha256, sizeBytes } = reference;
    let at = await sizeOf(path);
    for (let [furthest, stuck] = [at, 0]; at < sizeBytes; furthest = Math.max(furthest, at)) {
      try {
        await this.#append(reference, path, at);
        at = sizeBytes;
      } catch (error) {
        at = await sizeOf(path);
        stuck = at > furthest ? 0 : stuck + 1;
        if (stuck === mostStuck || !(error instanceof SwitchyardError) || error.code === "not_found") throw error;
        await this.#clock.sleep(stuckMs * 2 ** stuck);
      }
    }
    if ((await digestOfFile(path)) === sha256) return;
    await rm(path, { force: true });
    this.#tell(`handed over other bytes than those of ${sha256}`);
    throw new SwitchyardError("store_unavailable", `a coordinator handed over other bytes than those of ${sha256}`);
  }

  /** One request, from this byte on. Resolves when all bytes are there. */
  async #append({ sha256, sizeBytes }: BlobReference, path: string, skipBytes: number): Promise<void> {
    const silence = new AbortController();
    const listen = (): (() => void) =>
      this.#clock.after(answerMs, () => silence.abort(new TooLate(`it was silent for ${answerMs / 1_000} s`)));
    let heard = listen();
    try {
      const answer = await this.#ask(sha256, { signal: silence.signal, headers: skipBytes > 0 ? { range: `bytes=${skipBytes}-` } : {} });
      if (answer.status === 404) throw this.#lacks(sha256);
      if (!answer.ok || !answer.body) throw await this.#refused(answer);
      const isRest = answer.status === 206;
      let at = isRest ? skipBytes : 0;
      const wrong = (): SwitchyardError => {
        this.#tell(`sent another size than ${sizeBytes} bytes for ${sha256}`);
        return new SwitchyardError("store_unavailable", `a coordinator sent another size than ${sizeBytes} bytes for ${sha256}`);
      };
      // a page of somebody who stands between must not take the place of what is there already
      const toldBytes = answer.headers.has("content-encoding") ? null : answer.headers.get("content-length");
      if (toldBytes !== null && at + Number(toldBytes) !== sizeBytes) {
        await answer.body.cancel();
        throw wrong();
      }
      const file = await open(path, isRest ? "a" : "w");
      try {
        for await (const piece of answer.body) {
          heard();
          heard = listen();
          at += piece.length;
          if (at > sizeBytes) throw wrong();
          await file.writeFile(piece);
        }
      } finally {
        await file.close();
      }
      if (at < sizeBytes) throw wrong();
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
    const cancelTimer = this.#clock.after(answerMs, () => time.abort(new TooLate(`it took longer than ${answerMs / 1_000} s`)));
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

  #lacks(sha256: string): SwitchyardError {
    this.#tell(`has no file ${sha256}`);
    return new SwitchyardError("not_found", `the coordinator that this host asks has no file ${sha256}`);
  }

  #away(error: unknown): SwitchyardError {
    const { cause, message } = error as Error;
    const { code } = (cause ?? {}) as NodeJS.ErrnoException;
    this.#tell(`does not hand over large values: ${cause instanceof Error ? cause.message || code : message}`);
    const why = error instanceof TooLate ? message : (code ?? "the request failed");
    return new SwitchyardError("store_unavailable", `a coordinator does not hand over large values: ${why}`);
  }

  async #refused(answer: Response): Promise<SwitchyardError> {
    const text = await answer.text().catch(() => "");
    this.#tell(`answered ${answer.status} for a large value: ${text.slice(0, 200)}`);
    const code = text.includes('"store_full"') ? "store_full" : "store_unavailable";
    return new SwitchyardError(code, `a coordinator answered ${answer.status} for a large value`);
  }

  #tell(what: string): void {
    this.#trouble(`the coordinator at ${this.#base} ${what}`);
  }
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}
