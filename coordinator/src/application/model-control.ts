/**
 * Loading and unloading by request, as the repository extension of the Open Inference Protocol has it, for any door. What was asked stands in the
 * store: it outlives processes, and all coordinators keep to it.
 */

import { createHash, randomUUID } from "node:crypto";
import {
  type ModelConfig,
  type ModelState,
  type ModelVersion,
  modelNamePattern,
  onnxFileName,
  parseJson,
  quoted,
  SwitchyardError,
  versionNumberIn,
} from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { Log } from "../ports/log.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { ModelStateStore } from "../ports/model-state-store.ts";
import { type Caller, requireScope } from "./caller.ts";
import type { ModelLoads } from "./model-loads.ts";
import type { ModelUploads } from "./model-uploads.ts";

/** Every coordinator has looked twice by then: after it none admits what was refused. */
const agreedMs = 1_200;
const pieceBytes = 1 << 20;
const largestBatch = 65_536;
const mostAttempts = 20;
/** Of a configuration. */
const mostDepth = 64;

/** What a load may bring along. */
export interface LoadRequest {
  /** The model's configuration in the words of model servers, as JSON. */
  config?: string;
  /** Content by path below the model's folder, such as `1/model.onnx`. */
  files?: ReadonlyMap<string, Uint8Array>;
}

export interface ModelControlParts {
  store: ModelStateStore;
  models: ModelRegistry;
  uploads: Pick<ModelUploads, "put" | "stage">;
  loads: Pick<ModelLoads, "ensure">;
  /** Reads the store again. */
  takeOver: () => Promise<void>;
  /** Reads the repository's folder again. */
  rescan: () => Promise<void>;
  clock: Clock;
  log: Log;
}

export class ModelControl {
  readonly #parts: ModelControlParts;

  constructor(parts: ModelControlParts) {
    this.#parts = parts;
  }

  /**
   * Resolves when a host holds the model, in the version that requests get which name none, or the ones that came along. It stays loaded until it is
   * unloaded. Settings of an earlier load end with this one. Throws `load_failed` with the reason, and then the model is as it was before; new
   * versions stay. What a caller may not do is `forbidden`: files need scope `admin`.
   */
  async load(model: string, request: LoadRequest, caller: Caller, signal: AbortSignal): Promise<void> {
    const { log, models, rescan, store, takeOver } = this.#parts;
    if (!modelNamePattern.test(model)) throw failed(model, "a model's name has letters, digits, dots, underscores and dashes");
    if (request.files && request.files.size > 0) requireScope(caller, ["admin"]);
    await translated(model, async () => {
      const config = overrideIn(model, request);
      const came = await this.#takeFiles(model, request);
      if (models.versions(model).length === 0) await rescan(); // it may have just been put into the folder
      const { failure } = models.resolve(model).version;
      if (came.length === 0 && models.promised(model).length === 0) throw failed(model, failure ?? "no version of it can be served");
      let before: ModelState | undefined;
      const entry: ModelState = { state: "loaded", requestId: randomUUID(), ...(config && { config }) };
      await this.#set(model, (found) => {
        before = found;
        return entry;
      });
      await takeOver();
      try {
        for (const version of came.length > 0 ? this.#named(model, came) : models.promised(model))
          await this.#parts.loads.ensure(version, signal);
      } catch (error) {
        // whoever asked for something else meanwhile is not overruled
        await store.change(model, (found) => (found?.requestId === entry.requestId ? before : found)).catch(() => {});
        await takeOver().catch(() => {});
        throw error;
      }
      log.info("model_loaded_by_request", { model, ...(config && { config: JSON.stringify(config) }) });
    });
  }

  /**
   * From now on the model serves nothing: new requests are refused by every coordinator when this resolves, what was admitted ends, and hosts let
   * it go then. Throws `model_not_found`. Nothing depends on a model here: `unload_dependents` asks for no more.
   */
  async unload(model: string): Promise<void> {
    const { clock, log, models, takeOver } = this.#parts;
    if (models.versions(model).length === 0) models.resolve(model);
    await this.#set(model, () => ({ state: "unloaded" }));
    await takeOver();
    await clock.sleep(agreedMs);
    log.info("model_unloaded_by_request", { model });
  }

  /** Whatever stood there: of several who ask at once the last one has it. */
  async #set(model: string, change: (found: ModelState | undefined) => ModelState): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#parts.store.change(model, change);
        return;
      } catch (error) {
        if (!(error instanceof SwitchyardError) || error.code !== "changed_meanwhile" || attempt === mostAttempts) throw error;
      }
    }
  }

  #named(model: string, numbers: readonly number[]): ModelVersion[] {
    return numbers.map((number) => this.#parts.models.resolve(model, number).version);
  }

  /** The numbers of the versions that came. Weights first, so that their graph finds them. */
  async #takeFiles(model: string, { config, files = new Map() }: LoadRequest): Promise<number[]> {
    if (files.size > 0 && config === undefined) throw failed(model, "files need a config as well");
    const parsed = [...files].map(([path, bytes]) => {
      const [, folder = "", name] = /^(\d+)\/(.+)$/.exec(path) ?? [];
      const version = versionNumberIn(folder);
      if (version === undefined || name === undefined)
        throw failed(model, `file:${path.slice(0, 100)}: expected file:<version>/${onnxFileName}`);
      return { version, name, bytes };
    });
    const graphs = parsed.filter(({ name }) => name === onnxFileName);
    for (const { bytes, name, version } of parsed) {
      if (!graphs.some((graph) => graph.version === version)) throw failed(model, `version ${version} came without ${onnxFileName}`);
      if (name !== onnxFileName)
        await this.#parts.uploads.stage({ model, version }, name, { stream: piecesOf(bytes), sha256: sha256Of(bytes) });
    }
    for (const { bytes, version } of graphs) {
      await this.#parts.uploads.put({ model, version }, { stream: piecesOf(bytes), sha256: sha256Of(bytes) });
    }
    return graphs.map(({ version }) => version);
  }
}

/** Known to clients, and decided elsewhere here: what the model is, where it runs, how its tensors look. */
const decidedElsewhere = new Set([
  ...["name", "platform", "backend", "version_policy", "input", "output", "instance_group", "default_model_filename", "cc_model_filenames"],
  ...["parameters", "optimization", "model_transaction_policy", "response_cache", "model_warmup", "metric_tags", "runtime", "batch_input"],
  ...["batch_output", "model_operations", "model_repository_agents"],
]);

/** What of the configuration changes ours. */
function overrideIn(model: string, { config }: LoadRequest): ModelConfig | undefined {
  if (config === undefined) return undefined;
  let parsed: unknown;
  try {
    parsed = parseJson(Buffer.from(config), mostDepth).value;
  } catch {
    throw failed(model, `config is no JSON of at most ${mostDepth} levels`);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) throw failed(model, "config must be a JSON object");
  const override: ModelConfig = {};
  for (const [key, value] of Object.entries(parsed)) {
    if (key === "max_batch_size") {
      // clients of protobuf write numbers as texts
      const number = wholeNumber(value);
      if (number === undefined || number > largestBatch) {
        throw failed(model, `config: max_batch_size: expected a whole number from 0 to ${largestBatch}, got ${quoted(value)}`);
      }
      override.max_batch_items = Math.max(1, number); // 0: no batch axis, and so one item
    } else if (key === "dynamic_batching") {
      const delay = (value as { max_queue_delay_microseconds?: unknown } | null)?.max_queue_delay_microseconds;
      if (delay === undefined) continue;
      const us = wholeNumber(delay);
      if (us === undefined || us > 10_000_000) {
        throw failed(
          model,
          `config: dynamic_batching.max_queue_delay_microseconds: expected a whole number up to 10000000, got ${quoted(delay)}`,
        );
      }
      override.max_delay_ms = us / 1_000;
    } else if (key === "name" && value !== model && value !== "") {
      throw failed(model, `config: name: expected ${JSON.stringify(model)} or nothing, got ${quoted(value)}`);
    } else if (!decidedElsewhere.has(key)) {
      throw failed(model, `config: unknown field ${quoted(key)}; max_batch_size and dynamic_batching can be set`);
    }
  }
  return override;
}

function wholeNumber(value: unknown): number | undefined {
  const number = typeof value === "string" && /^\d{1,15}$/.test(value) ? Number(value) : value;
  return Number.isSafeInteger(number) && (number as number) >= 0 ? (number as number) : undefined;
}

const sha256Of = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** What is about the caller or the store keeps its name; everything else is why the load failed. */
async function translated(model: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof SwitchyardError) || kept.has(error.code)) throw error;
    throw failed(model, error.message, error.facts);
  }
}

const kept = new Set(["load_failed", "forbidden", "store_unavailable", "store_full", "draining", "internal", "changed_meanwhile"]);

function failed(model: string, why: string, facts: SwitchyardError["facts"] = {}): SwitchyardError {
  return new SwitchyardError("load_failed", `failed to load '${model.slice(0, 128)}': ${why}`, facts);
}
