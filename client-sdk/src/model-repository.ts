/** What operators do with models: upload versions, name them, move traffic between them, load and unload. */

import type { AliasTarget, AliasView } from "@switchyard/protocol";
import type { CallOptions } from "./job-handle.ts";
import { readObject, readPage } from "./job-records.ts";
import type { Call, Transport } from "./transport.ts";

export interface UploadOptions extends CallOptions {
  /** SHA-256 of the file in hexadecimal: the server refuses other bytes, and a version that has them already needs no second upload. */
  sha256?: string | undefined;
}

/** What became of an uploaded version. */
export interface UploadedModel {
  model: string;
  version: number;
  digest: string;
  size_bytes: number;
  /** False when it was there with the same content. */
  created: boolean;
}

const answerMs = 10_000;
/** The server's own limit for a request. */
const uploadMs = 300_000;
/** The server waits a minute for a host. */
const loadMs = 70_000;

export class ModelRepository {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /**
   * Makes the ONNX file a version; for keys with scope `admin`. Throws ClientError `version_exists` when the number has other content,
   * `invalid_request` when the graph cannot be served or names weights that were not sent ahead.
   */
  async upload(model: string, version: number, file: Blob | Uint8Array, options: UploadOptions = {}): Promise<UploadedModel> {
    const answer = await this.#put(`${pathOf(model)}/versions/${version}`, file, options);
    const view = readObject(answer.text(), "an uploaded version") as unknown as Omit<UploadedModel, "created">;
    return { ...view, created: answer.status === 201 };
  }

  /**
   * Removes an uploaded version; its number stays taken. For keys with scope `admin`. Throws ClientError `version_in_use` while an alias names it, it
   * is loaded by request, or jobs for it wait or run.
   */
  async remove(model: string, version: number, options: CallOptions = {}): Promise<void> {
    await this.#ask({ method: "DELETE", path: `${pathOf(model)}/versions/${version}`, ...options });
  }

  /** Sends a file with weights ahead of the version's graph, under the name that the graph has for it; it is kept for an hour. */
  async uploadWeights(model: string, version: number, name: string, file: Blob | Uint8Array, options: UploadOptions = {}): Promise<void> {
    const inner = name.split("/").map(encodeURIComponent).join("/");
    await this.#put(`${pathOf(model)}/versions/${version}/files/${inner}`, file, options);
  }

  /** `config`: what model.yaml may hold, as YAML or JSON text. */
  async configure(model: string, config: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ method: "PUT", path: `${pathOf(model)}/config`, body: config, ...options });
  }

  async aliases(model: string, options: CallOptions = {}): Promise<AliasView[]> {
    return readPage<AliasView>(await this.#ask({ path: `${pathOf(model)}/aliases`, ...options }), "a list of aliases").items;
  }

  /** Sets what an alias stands for; the alias `default` is used by requests that name no version. */
  async setAlias(model: string, alias: string, target: AliasTarget, options: CallOptions = {}): Promise<AliasView> {
    return aliasIn(await this.#ask({ method: "PUT", path: aliasPath(model, alias), body: JSON.stringify(target), ...options }));
  }

  async removeAlias(model: string, alias: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ method: "DELETE", path: aliasPath(model, alias), ...options });
  }

  /** Gives the alias to one version, or to that of another alias, once a host has it loaded. Throws ClientError `model_failed` when it does not load. */
  async promote(model: string, alias: string, to: { version: number } | { from: string }, options: CallOptions = {}): Promise<AliasView> {
    const path = `${aliasPath(model, alias)}/promote`;
    return aliasIn(await this.#ask({ method: "POST", path, body: JSON.stringify(to), tryMs: loadMs, ...options }));
  }

  /** Makes the alias stand for what it stood for before. */
  async rollBack(model: string, alias: string, options: CallOptions = {}): Promise<AliasView> {
    return aliasIn(await this.#ask({ method: "POST", path: `${aliasPath(model, alias)}/rollback`, tryMs: loadMs, ...options }));
  }

  /** Resolves when a host holds the model. `config`: JSON in the words of model servers, such as `{"max_batch_size": 8}`. */
  async load(model: string, options: CallOptions & { config?: string | undefined } = {}): Promise<void> {
    const { config, ...call } = options;
    const body = JSON.stringify(config === undefined ? {} : { parameters: { config } });
    await this.#ask({ method: "POST", path: `/v2/repository/models/${encodeURIComponent(model)}/load`, body, tryMs: loadMs, ...call });
  }

  /** New requests are refused from now on; what was admitted ends. */
  async unload(model: string, options: CallOptions = {}): Promise<void> {
    await this.#ask({ method: "POST", path: `/v2/repository/models/${encodeURIComponent(model)}/unload`, ...options });
  }

  #put(path: string, file: Blob | Uint8Array, { sha256, ...options }: UploadOptions) {
    const headers: Record<string, string> = { "content-type": "application/octet-stream" };
    if (sha256 !== undefined) headers["repr-digest"] = `sha-256=:${base64OfHex(sha256)}:`;
    return this.#transport.send({ method: "PUT", path, headers, body: file, tryMs: uploadMs, ...options }, { withinMs: 0 });
  }

  async #ask(call: Call): Promise<string> {
    const headers = call.body === undefined ? {} : { "content-type": "application/json" };
    return (await this.#transport.send({ tryMs: answerMs, headers, ...call }, { withinMs: 0 })).text();
  }
}

const pathOf = (model: string): string => `/v1/models/${encodeURIComponent(model)}`;
const aliasPath = (model: string, alias: string): string => `${pathOf(model)}/aliases/${encodeURIComponent(alias)}`;
const aliasIn = (text: string): AliasView => readObject(text, "an alias") as unknown as AliasView;

/** Browsers have no Buffer. */
function base64OfHex(hex: string): string {
  const bytes = hex.match(/../g) ?? [];
  return btoa(String.fromCharCode(...bytes.map((byte) => Number.parseInt(byte, 16))));
}
