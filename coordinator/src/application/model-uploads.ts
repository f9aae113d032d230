/**
 * Versions that come by the interface: bytes stream into the blob store, the graph is read in a process of its own, and one entry in the store
 * makes it a version, for all coordinators and hosts. Nothing that fails on the way leaves more than a blob that expires.
 */

import { createHash } from "node:crypto";
import {
  type BlobReference,
  isInnerPath,
  type ModelConfig,
  type ModelFileReference,
  type ModelVersion,
  onnxFileName,
  SwitchyardError,
  type UploadedVersion,
} from "@switchyard/protocol";
import { checkModelConfig } from "@switchyard/protocol/schemas";
import type { BlobStore, UnfinishedBlob } from "../ports/blob-store.ts";
import type { GraphInspector, InspectedGraph } from "../ports/graph-inspector.ts";
import type { Log } from "../ports/log.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { NewUpload, UploadStore, VersionName } from "../ports/upload-store.ts";
import { beingRemoved } from "./version-removal.ts";

/** What was sent ahead, and what an upload has not finished, is kept for so long. */
const unfinishedMs = 3_600_000;
/** Files of versions are kept for so long at a time; every coordinator prolongs that twice a day, by the clock of its sweeps, before it deletes anything. */
const keptMs = 8 * 86_400_000;
const prolongEveryMs = 12 * 3_600_000;
/** Versions and files sent ahead that one model may have. */
const mostVersions = 10_000;
const mostFiles = 64;

export interface ModelUploadsParts {
  store: UploadStore;
  blobs: BlobStore;
  inspector: GraphInspector;
  models: Pick<ModelRegistry, "versions" | "published">;
  /** Reads the store again and publishes what came. */
  takeOver: () => Promise<void>;
  readYaml: (text: string) => { value: unknown } | { problem: string };
  log: Log;
}

/** One file as it comes. `sha256`: what the sender says of it. */
export interface IncomingFile {
  stream: AsyncIterable<Uint8Array>;
  sha256?: string;
}

/** What has a number already. */
interface Standing {
  version: UploadedVersion | ModelVersion;
  /** Of an uploaded one. */
  onnxSha256?: string | undefined;
}

export class ModelUploads {
  readonly #parts: ModelUploadsParts;
  /** When each file was last prolonged here, by SHA-256; by the store's clock. */
  readonly #prolonged = new Map<string, number>();

  constructor(parts: ModelUploadsParts) {
    this.#parts = parts;
  }

  /**
   * Makes the ONNX file that comes the version. `created` is false when the version is there with the same content. Throws `version_exists`
   * when it has another, `invalid_request` when the graph cannot be served, weights that it names were not sent ahead, or the bytes have another
   * digest than the sender says; then there is no version, and what was sent ahead stays for another try.
   */
  async put(of: VersionName, file: IncomingFile): Promise<{ version: UploadedVersion | ModelVersion; created: boolean }> {
    const { blobs } = this.#parts;
    const before = await this.#standing(of);
    if (before && file.sha256 !== undefined && before.onnxSha256 !== undefined) {
      // decided before a byte has come
      if (file.sha256 !== before.onnxSha256) throw exists(of, before.version.digest);
      if (
        (await this.#isSame(before, { sha256: file.sha256 })) &&
        (await this.#lost(before.version.files, { areRead: true })).length === 0
      ) {
        return { version: before.version, created: false };
      }
    }
    let upload: NewUpload | undefined;
    const inspect = async (unfinished: UnfinishedBlob): Promise<void> => {
      if (before && (await this.#isSame(before, unfinished))) return;
      const graph = await this.#parts.inspector.inspect(unfinished.file);
      upload = await this.#described(of, graph, unfinished);
      if (before && before.version.digest !== upload.digest) throw exists(of, before.version.digest);
      this.#checkBounds(of);
    };
    await blobs.receive(file.stream, { keepMs: unfinishedMs, inspect, ...(file.sha256 !== undefined && { sha256: file.sha256 }) });
    if (before === undefined) return this.#add(upload!);
    const lost = await this.#lost(before.version.files, { areRead: true });
    if (lost.length > 0) throw missing(lost, "are gone or damaged");
    return { version: before.version, created: false };
  }

  /** Without asking for the weights again, unless others were sent since. */
  async #isSame({ onnxSha256, version }: Standing, { sha256 }: Pick<UnfinishedBlob, "sha256">): Promise<boolean> {
    if (onnxSha256 !== sha256) return false;
    const staged = await this.#parts.store.staged(version);
    return (version.files ?? []).every((file) => (staged.get(file.name) ?? file).sha256 === file.sha256);
  }

  async #add(upload: NewUpload): Promise<{ version: UploadedVersion; created: boolean }> {
    const { log, store, takeOver } = this.#parts;
    const lost = await this.#lost(upload.files);
    if (lost.length > 0) throw missing(lost, "were sent ahead too long ago");
    const { created, version: stands } = await store.add(upload);
    if (stands.digest !== upload.digest) throw exists(upload, stands.digest);
    if (stands.leavingMs !== undefined) throw beingRemoved(upload);
    await takeOver();
    if (created)
      log.info("version_uploaded", { model: upload.model, version: upload.version, digest: upload.digest, sizeBytes: upload.sizeBytes });
    return { version: stands, created };
  }

  /**
   * Keeps files of a version, and answers the names of those that are not there. `areRead`: nor damaged. Nobody else notices that: hosts read files
   * that they are linked, and who sends a version again wants it to work.
   */
  async #lost(files: readonly ModelFileReference[] = [], how = { areRead: false }): Promise<string[]> {
    const { blobs } = this.#parts;
    const lost: string[] = [];
    for (const file of files) {
      if (!(await blobs.keep(file, { keepMs: keptMs })) || (how.areRead && !(await this.#isWhole(file)))) lost.push(file.name);
      else await blobs.sync(file);
    }
    return lost;
  }

  async #isWhole({ sha256 }: ModelFileReference): Promise<boolean> {
    const found = await this.#parts.blobs.open(sha256);
    return found !== undefined && (await this.#digestOf(found.stream, [])) === sha256;
  }

  /** What has this number now, uploaded or in the folder. */
  async #standing(of: VersionName): Promise<Standing | undefined> {
    const { models, store } = this.#parts;
    const uploaded = await store.find(of);
    if (uploaded?.leavingMs !== undefined) throw beingRemoved(of);
    if (uploaded) return { version: uploaded, onnxSha256: uploaded.files[0]?.sha256 };
    const first = await store.firstDigest(of);
    if (first === undefined) return undefined;
    const listed = models.versions(of.model).find(({ version }) => version.version === of.version)?.version;
    if (listed?.digest === first) return { version: listed };
    // it was there once; its number is taken for good, and the same content may come back
    return undefined;
  }

  /** The digest is that of the ONNX file and then its weights in name order, as it is of a version in the folder. */
  async #described(of: VersionName, graph: InspectedGraph, { read, sha256, sizeBytes: onnxBytes }: UnfinishedBlob): Promise<NewUpload> {
    const { store } = this.#parts;
    const { externalFiles, signature } = graph;
    const files: ModelFileReference[] = [{ name: onnxFileName, sha256, sizeBytes: onnxBytes }];
    if (externalFiles.length > 0) {
      if (externalFiles.length > mostFiles)
        throw refused(`The graph keeps weights in ${externalFiles.length} files`, `at most ${mostFiles}`);
      for (const name of externalFiles) if (!isInnerPath(name)) throw leadsOut(name);
      const staged = await store.staged(of);
      const absent = externalFiles.filter((name) => !staged.has(name));
      if (absent.length > 0) throw missing(absent, "were not sent ahead");
      for (const name of externalFiles) files.push({ name, ...(staged.get(name) as BlobReference) });
    }
    const digest = files.length === 1 ? sha256 : await this.#digestOf(read(), files.slice(1));
    const first = await store.firstDigest(of);
    if (first !== undefined && first !== digest) throw exists(of, first);
    const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
    return { ...of, digest, sizeBytes, signature, files };
  }

  async #digestOf(graph: AsyncIterable<Uint8Array>, weights: readonly ModelFileReference[]): Promise<string> {
    const hash = createHash("sha256");
    for await (const piece of graph) hash.update(piece);
    for (const file of weights) {
      const found = await this.#parts.blobs.open(file.sha256);
      if (!found) throw missing([file.name], "was sent ahead too long ago");
      for await (const piece of found.stream) hash.update(piece);
    }
    return hash.digest("hex");
  }

  #checkBounds({ model }: VersionName): void {
    if (this.#parts.models.versions(model).length < mostVersions) return;
    throw refused(`Model ${model} has ${mostVersions} versions`, "fewer");
  }

  /** Takes a file with weights that the version's graph will name. Sent again, it takes the place of the one before. */
  async stage(of: VersionName, name: string, file: IncomingFile): Promise<BlobReference> {
    const { blobs, store } = this.#parts;
    if (!isInnerPath(name)) throw leadsOut(name);
    const staged = await store.staged(of);
    if (!staged.has(name) && staged.size >= mostFiles)
      throw refused(`Version ${of.version} has ${staged.size} files`, `at most ${mostFiles}`);
    // kept longer than the note of it
    const how = { keepMs: 2 * unfinishedMs, ...(file.sha256 !== undefined && { sha256: file.sha256 }) };
    const reference = await blobs.receive(file.stream, how);
    await store.stage(of, { name, keepMs: unfinishedMs, ...reference });
    return reference;
  }

  /** `text`: YAML or JSON; none removes it. Of a model without a folder: one that has one has its model.yaml there. Throws `invalid_request`. */
  async configure(model: string, text: string | undefined): Promise<ModelConfig> {
    for (const version of this.#parts.models.published()) {
      if (version.model !== model || version.files !== undefined) continue;
      const detail = `Model ${model} lies in the repository's folder: change its model.yaml there`;
      throw new SwitchyardError("invalid_request", detail);
    }
    const config = text === undefined ? undefined : this.#configIn(text);
    for (const [output, { labels }] of Object.entries(config?.outputs ?? {})) {
      if (labels === undefined) continue;
      const fields = [
        { pointer: `/outputs/${output}/labels`, expected: "no file: only models in the repository's folder have some", got: labels },
      ];
      throw new SwitchyardError("invalid_request", "Files of labels cannot be uploaded", { fields });
    }
    await this.#parts.store.setConfig(model, config);
    await this.#parts.takeOver();
    return config ?? {};
  }

  #configIn(text: string): ModelConfig {
    const document = this.#parts.readYaml(text);
    const checked = "problem" in document ? document : checkModelConfig(document.value);
    if ("config" in checked) return checked.config;
    throw new SwitchyardError("invalid_request", `The configuration is refused: ${checked.problem}`, {
      fields: [{ pointer: "body", expected: "what model.yaml may hold, as YAML or JSON", got: checked.problem.slice(0, 200) }],
    });
  }

  /**
   * Before blobs are swept: what versions consist of stays. `nowMs`: that of the sweep, for a clock of its own would not notice that the other had leapt.
   * Throws when some could not be kept, after the others were: then nothing may be swept.
   */
  async keepFiles(nowMs: number): Promise<void> {
    const { blobs, log, store } = this.#parts;
    const failures: string[] = [];
    for (const { files, model, version } of (await store.uploads()).values()) {
      for (const file of files) {
        if (Math.abs(nowMs - (this.#prolonged.get(file.sha256) ?? Number.NEGATIVE_INFINITY)) < prolongEveryMs) continue;
        try {
          if (await blobs.keep(file, { keepMs: keptMs, fromMs: nowMs })) this.#prolonged.set(file.sha256, nowMs);
          else log.warn("version_file_lost", { model, version, file: file.name, sha256: file.sha256 });
        } catch (error) {
          failures.push(`${file.name} of version ${version} of ${model}: ${(error as Error).message}`);
        }
      }
    }
    if (failures.length === 0) return;
    throw new Error(`${failures.length} files of versions could not be kept on, and nothing is swept; the first is ${failures[0]}`);
  }
}

function exists({ model, version }: VersionName, digest: string): SwitchyardError {
  const detail = `Model ${model} has a version ${version} with other content (digest ${digest.slice(0, 12)}…), and a version never changes; use another number`;
  return new SwitchyardError("version_exists", detail, { extra: { digest } });
}

function missing(names: readonly string[], why: string): SwitchyardError {
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name));
  const detail = `The graph keeps weights in ${shown.join(", ")}, which ${why}: PUT each at …/files/<name> first, then the graph again`;
  return new SwitchyardError("invalid_request", detail, { fields: [{ pointer: "files", expected: shown.join(", "), got: "nothing" }] });
}

function leadsOut(name: string): SwitchyardError {
  const expected = "a path below the version's folder, as the graph names it";
  return new SwitchyardError(
    "invalid_request",
    `The name of a file with weights must be ${expected}, not ${JSON.stringify(name.slice(0, 100))}`,
    {
      fields: [{ pointer: "name", expected, got: name.slice(0, 100) }],
    },
  );
}

function refused(what: string, expected: string): SwitchyardError {
  return new SwitchyardError("invalid_request", `${what}; expected ${expected}`);
}
