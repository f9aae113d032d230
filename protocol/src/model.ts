/** What a model version is: its signature (read from the graph) and its configuration (model.yaml). */

import type { BlobReference } from "./blob-reference.ts";
import type { ModelConfig } from "./schemas/model-config.ts";
import type { Requirement } from "./schemas/requirement.ts";
import type { Datatype } from "./tensors.ts";

export const modelNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The number that a text is; undefined for what is no version. Above 2^53 two texts would be one number. */
export function versionNumberIn(text: string): number | undefined {
  const number = /^[1-9]\d{0,15}$/.test(text) ? Number(text) : 0;
  return number > 0 && Number.isSafeInteger(number) ? number : undefined;
}

export interface TensorSignature {
  name: string;
  datatype: Datatype;
  /** -1 marks a dynamic axis. */
  shape: number[];
  /** Names of symbolic axes as the graph gives them, null for fixed or unnamed ones; same length as `shape`. */
  axes?: (string | null)[];
}

export interface ModelSignature {
  inputs: TensorSignature[];
  outputs: TensorSignature[];
}

/** A model that another server of the Open Inference Protocol holds. */
export interface RemoteModel {
  /** Which servers: a host says for each framework where its server is. */
  framework: string;
  /** The model's name there. */
  model: string;
  /** Its version there; the server's own choice when absent. */
  version?: string;
}

/** One file of an uploaded version. */
export interface ModelFileReference extends BlobReference {
  /** As the graph names it, relative to the ONNX file; that one is `model.onnx`. */
  name: string;
}

/** A version that was uploaded, as it stands in Redis. Never changed. */
export interface UploadedVersion {
  model: string;
  version: number;
  digest: string;
  sizeBytes: number;
  signature: ModelSignature;
  files: ModelFileReference[];
  /** Tells two uploads of the same content apart. */
  uploadId: string;
  /** By the store's clock. */
  uploadedMs: number;
  /** Since when somebody removes it, by the store's clock: coordinators take no more jobs for it, hosts still run those that were taken. */
  leavingMs?: number;
}

/** What was asked of a model, as it stands in Redis. */
export interface ModelState {
  /** `loaded`: on a host always. `unloaded`: it serves nothing. */
  state: "loaded" | "unloaded";
  /** Of the request that asked; two that ask for the same are two. */
  requestId?: string;
  /** Settings that go before those of its own. */
  config?: ModelConfig;
}

export const onnxFileName = "model.onnx";

/** Whether a name leads to a file below the folder that it is relative to, on every system. */
export function isInnerPath(name: string): boolean {
  if (name.length > 255 || /[\\:\p{Cc}]/u.test(name)) return false;
  return name.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

/** One version in the registry, as coordinators publish it and hosts read it. */
export interface ModelVersion {
  model: string;
  version: number;
  /** SHA-256 of the ONNX file (and its external data), hex. */
  digest: string;
  /** Queue tag, see redis/queue-tag.ts. */
  tag: string;
  sizeBytes: number;
  /** Path below the repository root of the ONNX file, or of remote.yaml. */
  path: string;
  /** Only of a version that was uploaded: its files as blobs, the ONNX file first. Hosts fetch them; there is no folder. */
  files?: ModelFileReference[];
  /** Where it runs instead of in a host's own runtime. */
  remote?: RemoteModel;
  signature: ModelSignature;
  config: ModelConfig;
  /** Class names per output, read from the files that model.yaml names. */
  labels?: Record<string, string[]>;
  /** Why it cannot be served; absent while it can. */
  failure?: string;
  /** Its model serves nothing because somebody asked for that: hosts load it only for what was admitted before. */
  unloaded?: true;
  /** Only of a queue for jobs with a requirement of their own: what they require beyond the model. */
  require?: Requirement;
}

/** A queue for jobs that require more of a host than their model does, as it stands in Redis. */
export interface ChoosyQueue {
  model: string;
  version: number;
  digest: string;
  require: Requirement;
}

/** The version as such a queue sees it; undefined when its content is no longer there. */
export function choosyVersion(queue: ChoosyQueue, tag: string, versions: readonly ModelVersion[]): ModelVersion | undefined {
  const base = versions.find(({ version, digest }) => version === queue.version && digest === queue.digest);
  return base && { ...base, tag, require: queue.require };
}

/** Bytes of memory that a model of this file size is expected to take: its weights, what is computed, the session itself. */
export function estimatedModelBytes(fileBytes: number): number {
  return Math.ceil(fileBytes * 1.5) + 4 * 1024 * 1024;
}

/** Why a host does not load what it could: what it holds is in use, which passes, or kept. It says nothing against the model. */
export function noRoomFor({ model, version }: Pick<ModelVersion, "model" | "version">, passes: boolean): string {
  return `${noRoom}${model} version ${version}: every loaded model is ${passes ? inUse : "kept"}`;
}

export function isNoRoom(reason: string): boolean {
  return reason.startsWith(noRoom);
}

/** Whether there may be room as soon as a run ends. */
export function isRoomAwaited(reason: string): boolean {
  return isNoRoom(reason) && reason.endsWith(inUse);
}

const noRoom = "no room for ";
const inUse = "in use or kept";

/** All that a host must have to take this queue's jobs; empty for most. */
export function requirementsOf(version: Pick<ModelVersion, "config" | "remote" | "require">): Requirement[] {
  const found: Requirement[] = [];
  if (version.remote) found.push({ frameworks: [version.remote.framework] });
  if (version.config.require) found.push(version.config.require);
  if (version.require) found.push(version.require);
  return found;
}

/** Whether it matters to this queue which host takes its jobs. */
export function isChoosy(version: Pick<ModelVersion, "config" | "remote" | "require">): boolean {
  return requirementsOf(version).length > 0 || (version.config.prefer?.length ?? 0) > 0;
}
