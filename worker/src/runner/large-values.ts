/**
 * Inputs and outputs for which Redis holds a reference. Large ones are blobs in the coordinators' folder: owns the choice of the way
 * there, the folder itself when this host sees the cluster's own, else a coordinator. Inputs may also be files in that folder.
 */

import { blobThresholdBytes, encodeBlobReference, readInputReference, SwitchyardError } from "@switchyard/protocol";
import { keys } from "@switchyard/protocol/redis";
import type { RedisWire } from "../redis-connection.ts";
import type { Blobs } from "./blobs.ts";
import { type JobResult, outputMarginMs } from "./claims.ts";
import type { FilesystemBlobs } from "./filesystem-blobs.ts";
import type { FrameMemory, InputFiles } from "./input-files.ts";

/** What was read for a job: its frame, nothing when that is gone, or why it cannot be told now. */
export type InputFrame = Uint8Array | null | SwitchyardError;

/** A job whose inputs are not where they were told to be: they may have moved. */
const moved = Symbol("moved");

export class LargeValues {
  readonly #redis: RedisWire;
  readonly #files: InputFiles;
  readonly #folder: FilesystemBlobs;
  readonly #remote: Blobs | undefined;
  readonly #trouble: (message: string) => void;
  #chosen: Blobs | undefined;

  /** `remote` is asked where the folder is not the cluster's. `trouble` hears all that is known of a failure, for the log: those who wait for a job read its error. */
  constructor(parts: {
    redis: RedisWire;
    files: InputFiles;
    folder: FilesystemBlobs;
    remote?: Blobs | undefined;
    trouble?: (message: string) => void;
  }) {
    this.#trouble = parts.trouble ?? (() => {});
    this.#redis = parts.redis;
    this.#files = parts.files;
    this.#folder = parts.folder;
    this.#remote = parts.remote;
  }

  /**
   * Puts the bytes in the place of references, for one batch, whose `memory` nobody else may use as long as its frames are looked at. `again` reads what Redis holds for jobs, in order:
   * when a host joins that does not see the files, coordinators bring what is in them to Redis, maybe just now. Throws where this host is such a one and that is
   * still to come: ask again.
   */
  async fetched(
    ids: readonly string[],
    stored: readonly (Uint8Array | null)[],
    { again, memory }: { again: (places: readonly number[]) => Promise<readonly (Uint8Array | null)[]>; memory: FrameMemory },
  ): Promise<InputFrame[]> {
    if (!stored.some((value) => value && readInputReference(value))) return [...stored];
    memory.reuse();
    const frames: (InputFrame | typeof moved)[] = [];
    for (const [at, value] of stored.entries()) frames.push(value && (await this.#fetch(ids[at]!, value, memory)));
    const places = frames.flatMap((frame, at) => (frame === moved ? at : []));
    if (places.length === 0) return frames as InputFrame[];
    const values = await again(places);
    for (const [index, at] of places.entries()) {
      const value = values[index] ?? null;
      const frame = value && (await this.#fetch(ids[at]!, value, memory));
      if (frame === moved && !(await this.#files.sees(value!))) throw noPlace();
      frames[at] = frame === moved ? null : frame;
    }
    return frames as InputFrame[];
  }

  async #fetch(id: string, value: Uint8Array, memory: FrameMemory): Promise<InputFrame | typeof moved> {
    try {
      const reference = readInputReference(value);
      if (!reference) return value;
      if (reference.kind === "file") {
        const frame = await this.#files.read(id, reference, memory);
        return frame === undefined ? moved : frame;
      }
      const place = await this.#place();
      if (!place) throw noPlace();
      return (await place.get(reference)) ?? null;
    } catch (error) {
      return this.#failure(error);
    }
  }

  /** Puts references in the place of large outputs. A job whose outputs found no room is answered by `failed`. Never throws. */
  async stored(results: readonly JobResult[], failed: (result: JobResult, why: SwitchyardError) => JobResult): Promise<JobResult[]> {
    if (!results.some((result) => result.outcome === "succeeded" && result.outputs.length > blobThresholdBytes)) return [...results];
    const answers: JobResult[] = [];
    for (const result of results) {
      if (result.outcome !== "succeeded" || result.outputs.length <= blobThresholdBytes) answers.push(result);
      else {
        try {
          answers.push({ ...result, outputs: await this.#store(result.outputs, result.ttlMs) });
        } catch (error) {
          answers.push(failed(result, this.#failure(error)));
        }
      }
    }
    return answers;
  }

  async #store(outputs: Uint8Array, ttlMs: number): Promise<Uint8Array> {
    const place = await this.#place();
    if (!place) throw noPlace();
    return encodeBlobReference(await place.put(outputs, { keepMs: ttlMs + outputMarginMs }));
  }

  /** The cluster's folder bears the id that its coordinators tell in Redis; a folder of the same name elsewhere does not. */
  async #place(): Promise<Blobs | undefined> {
    if (this.#chosen) return this.#chosen;
    const [told, found] = await Promise.all([this.#redis.get(keys.blobFolder), this.#folder.folderId()]);
    if (told !== null && told === found) this.#chosen = this.#folder;
    return this.#chosen ?? this.#remote;
  }

  /** What the system says of a file has its path. */
  #failure(error: unknown): SwitchyardError {
    if (error instanceof SwitchyardError) return error;
    const { code, message, syscall } = error as NodeJS.ErrnoException;
    this.#trouble(`large values cannot be reached: ${message}`);
    const why = code === undefined ? "the host's log has the cause" : `${code}${syscall === undefined ? "" : ` at ${syscall}`}`;
    return new SwitchyardError("store_unavailable", `large values cannot be reached: ${why}`);
  }
}

function noPlace(): SwitchyardError {
  const remedy = "set SWITCHYARD_BLOBS to the coordinators' folder, or SWITCHYARD_URL to a coordinator's address";
  return new SwitchyardError("store_unavailable", `this host has no way to large values: ${remedy}`);
}
