/**
 * The model repository as a folder: `<model>/<version>/model.onnx`, or remote.yaml in its place, and `<model>/model.yaml`. A scan reads only what changed since the one
 * before. It reports what lies there; whether a version may change its content is the registry's to decide.
 */

import { readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { type ModelVersion, modelNamePattern, versionNumberIn } from "@switchyard/protocol";
import { queueTag } from "@switchyard/protocol/redis";
import { type Clock, systemClock } from "../clock.ts";
import { type Fingerprint, filesHold, fingerprintOf, isInside, type ModelFile, readModelFile, sameFingerprint } from "./model-file.ts";
import { type ModelSettings, readModelSettings } from "./model-settings.ts";
import { type RemoteFile, readRemoteFile, remoteName } from "./remote-file.ts";

export interface RepositoryProblem {
  /** Below the repository's root. */
  path: string;
  problem: string;
  /** It may be gone in a second, by itself. */
  passing?: true;
}

export interface RepositoryScan {
  /** By model name, then version. An unchanged version is the same object as in the scan before. */
  versions: ModelVersion[];
  /** What is no version: bad names, folders without a model, links that lead out, files still being written. */
  problems: RepositoryProblem[];
}

interface Listing {
  /** Real path of the model's folder. */
  folder: string;
  fingerprint: Fingerprint;
  /** False while the folder is so young that an entry could have come in the same tick of its clock. */
  trusted: boolean;
  versions: number[];
  hasSettings: boolean;
  problems: RepositoryProblem[];
}

interface KnownVersion {
  file: RemoteFile;
  /** The settings that `listed` was made with. */
  settings: ModelSettings;
  listed: ModelVersion;
}

interface KnownModel {
  listing: Listing;
  settings: ModelSettings;
  versions: Map<number, KnownVersion>;
  /** Whether nothing was wrong with it when it was read. */
  faultless: boolean;
}

/** A file that cannot be read and is younger than this is taken for half-written. */
const halfWrittenMs = 1_000;
const onnxName = "model.onnx";
/** Coarser than the time stamps of any filesystem in use. */
const folderTickMs = 2_000;
const foldersAtOnce = 8;
/** Checks of unchanged files are synchronous; the event loop waits for them no longer than this at a time. */
const longestTurnMs = 2;
/** Larger files are read one at a time, so that memory holds at most one of them. */
const largeFileBytes = 64 << 20;

export class FilesystemModels {
  readonly #root: string;
  readonly #clock: Clock;
  #known = new Map<string, KnownModel>();
  /** What the last scan looked at, of which not all needs to be a model. */
  #lastNames = 0;
  /** What the last scan answered, where it found the root: it holds for as long as nothing changes. */
  #last: RepositoryScan | undefined;
  #running: Promise<RepositoryScan> | undefined;
  #largeReads: Promise<unknown> = Promise.resolve();

  constructor(repository: { root: string; clock?: Clock }) {
    this.#root = repository.root;
    this.#clock = repository.clock ?? systemClock;
  }

  /** Calls during a scan join it. Rejects only when the root itself cannot be read. */
  scan(): Promise<RepositoryScan> {
    this.#running ??= this.#scan().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #scan(): Promise<RepositoryScan> {
    const problems: RepositoryProblem[] = [];
    const root = await realpath(this.#root).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
      return undefined;
    });
    const known = new Map<string, KnownModel>();
    if (root === undefined) {
      this.#known = known;
      this.#last = undefined;
      return { versions: [], problems: [{ path: ".", problem: "the repository's folder does not exist" }] };
    }
    const entries = await readdir(root, { withFileTypes: true });
    // Hidden entries and plain files beside the models (a README) are nobody's business here.
    const names = entries.filter((entry) => !entry.name.startsWith(".") && !entry.isFile()).map((entry) => entry.name);
    let turnBeganMs = this.#clock.monotonicMs();
    let unchanged = 0;
    await eachOf(names, foldersAtOnce, async (name) => {
      if (this.#clock.monotonicMs() - turnBeganMs > longestTurnMs) {
        await new Promise((nextTurn) => setImmediate(nextTurn));
        turnBeganMs = this.#clock.monotonicMs();
      }
      const before = this.#known.get(name);
      const holds = before !== undefined && isUnchanged(before, root, name);
      if (holds) unchanged++;
      const model = holds ? before : await this.#model(root, name, problems);
      if (model) known.set(name, model);
    });
    const isSame = unchanged === names.length && names.length === this.#lastNames;
    this.#known = known;
    this.#lastNames = names.length;
    if (isSame && this.#last) return this.#last;
    const versions = [...known.values()].flatMap((model) => [...model.versions.values()].map((version) => version.listed));
    versions.sort((one, other) => compareText(one.model, other.model) || one.version - other.version);
    problems.sort((one, other) => compareText(one.path, other.path));
    this.#last = { versions, problems };
    return this.#last;
  }

  async #model(root: string, name: string, allProblems: RepositoryProblem[]): Promise<KnownModel | undefined> {
    const known = this.#known.get(name);
    const problems: RepositoryProblem[] = [];
    try {
      const listing = await this.#list(root, name, known?.listing);
      if (typeof listing === "string") {
        problems.push({ path: name, problem: listing });
        return undefined;
      }
      problems.push(...listing.problems);
      const settings = await this.#settings(listing, known);
      const versions = new Map<number, KnownVersion>();
      for (const number of listing.versions) {
        const before = known?.versions.get(number);
        const version = await this.#version(root, { name, number, listing, settings }, before, problems).catch((error: Error) => {
          problems.push({ path: `${name}/${number}/model.onnx`, problem: `cannot be read: ${error.message}` });
          return before;
        });
        if (version) versions.set(number, version);
      }
      return { listing, settings, versions, faultless: problems.length === 0 };
    } catch (error) {
      problems.push({ path: name, problem: `cannot be read: ${(error as Error).message}` });
      return known;
    } finally {
      allProblems.push(...problems);
    }
  }

  /** What the model's folder has, or why it is not a model's folder. An unchanged folder is not read again. */
  async #list(root: string, name: string, known: Listing | undefined): Promise<Listing | string> {
    if (!modelNamePattern.test(name)) {
      return `bad model name: expected a letter or digit, then at most 127 letters, digits, ".", "_" or "-", got ${JSON.stringify(name)}`;
    }
    const path = join(root, name);
    const fingerprint = fingerprintOf(path);
    if (fingerprint === undefined) return "leads nowhere";
    if (known?.trusted && sameFingerprint(known.fingerprint, fingerprint)) return known;
    const folder = await realpath(path);
    if (!isInside(folder, root)) return "is a link that leads out of the repository";
    const entries = await readdir(folder, { withFileTypes: true });
    const trusted = Math.abs(this.#clock.nowMs() - fingerprint.modifiedMs) > folderTickMs;
    const listing: Listing = { folder, fingerprint, trusted, versions: [], hasSettings: false, problems: [] };
    for (const entry of entries.sort((one, other) => compareText(one.name, other.name))) {
      if (entry.name === "model.yaml") listing.hasSettings = true;
      if (entry.name.startsWith(".") || entry.isFile()) continue;
      const number = versionNumberIn(entry.name);
      if (number !== undefined) listing.versions.push(number);
      else if (entry.isDirectory()) listing.problems.push({ path: `${name}/${entry.name}`, problem: badVersion(entry.name) });
    }
    if (listing.versions.length === 0) listing.problems.push({ path: name, problem: "has no version folder, such as 1" });
    return listing;
  }

  async #settings(listing: Listing, known: KnownModel | undefined): Promise<ModelSettings> {
    if (known && known.listing.folder === listing.folder) {
      if (!listing.hasSettings && !known.listing.hasSettings) return known.settings;
      if (known.listing.hasSettings && filesHold(known.settings.files)) return known.settings;
    }
    const settings = await readModelSettings(listing.folder);
    // An editor may be writing it at this moment: what was known stays for one more scan.
    const halfWritten = settings.failure !== undefined && this.#isYoung(settings.files.values());
    return halfWritten && known ? known.settings : settings;
  }

  async #version(
    root: string,
    of: { name: string; number: number; listing: Listing; settings: ModelSettings },
    known: KnownVersion | undefined,
    problems: RepositoryProblem[],
  ): Promise<KnownVersion | undefined> {
    let path = `${of.name}/${of.number}/${known?.file.fileName ?? onnxName}`;
    const given = join(of.listing.folder, String(of.number), onnxName);
    const refuse = (problem: string): undefined => {
      problems.push({ path, problem });
      return undefined;
    };
    let file = known?.file;
    if (file === undefined || !filesHold(file.files)) {
      const folder = await realpath(join(given, "..")).catch(() => undefined);
      let real = await realpath(given).catch(() => undefined);
      const remote = join(given, "..", remoteName);
      const isRemote = real === undefined && fingerprintOf(remote) !== undefined;
      path = `${of.name}/${of.number}/${isRemote ? remoteName : onnxName}`;
      if (isRemote) real = await realpath(remote).catch(() => undefined);
      if (real === undefined || folder === undefined) return refuse(`there is no such file, and no ${remoteName} either`);
      if (!isInside(real, root) || !isInside(folder, root)) return refuse("is a link that leads out of the repository");
      // Opening a pipe would wait for its writer.
      if (!(await stat(real)).isFile()) return refuse("is no file");
      const read: RemoteFile = isRemote
        ? await readRemoteFile(remote, { model: of.name, missing: given })
        : await this.#readFile(given, folder);
      if (read.unsettled || (read.failure !== undefined && this.#isYoung(read.files.values()))) {
        problems.push({ path, problem: "is still being written; it is read again at the next scan", passing: true });
        return known;
      }
      file = read;
    }
    if (known?.file === file && known.settings === of.settings) return known;
    return { file, settings: of.settings, listed: modelVersion(of, file) };
  }

  async #readFile(path: string, folder: string): Promise<ModelFile> {
    if ((fingerprintOf(path)?.size ?? 0) <= largeFileBytes) return readModelFile(path, folder);
    const turn = this.#largeReads.then(() => readModelFile(path, folder));
    this.#largeReads = turn.catch(() => undefined);
    return turn;
  }

  #isYoung(files: Iterable<Fingerprint | undefined>): boolean {
    const nowMs = this.#clock.nowMs();
    for (const file of files) if (file && Math.abs(nowMs - file.modifiedMs) < halfWrittenMs) return true;
    return false;
  }
}

/** What nearly every model is at nearly every scan, found without a promise or a new path: a repository of thousands is looked at all the time. */
function isUnchanged({ listing, settings, versions, faultless }: KnownModel, root: string, name: string): boolean {
  if (!faultless || !listing.trusted || !sameFingerprint(fingerprintOf(`${root}/${name}`), listing.fingerprint)) return false;
  if (listing.hasSettings && !filesHold(settings.files)) return false;
  for (const { file } of versions.values()) if (!filesHold(file.files)) return false;
  return true;
}

function modelVersion(of: { name: string; number: number; settings: ModelSettings }, file: RemoteFile): ModelVersion {
  const fileName = file.fileName ?? onnxName;
  const { config, labels } = of.settings;
  const failures = [
    ...(of.settings.failure ? [of.settings.failure] : []),
    ...(file.failure ? [`${of.number}/${fileName}: ${file.failure}`] : unknownOutputs(of.settings, file)),
  ];
  return {
    model: of.name,
    version: of.number,
    digest: file.digest,
    tag: queueTag(of.name, file.digest),
    sizeBytes: file.sizeBytes,
    path: `${of.name}/${of.number}/${fileName}`,
    ...(file.remote ? { remote: file.remote } : {}),
    signature: file.signature,
    config,
    ...(labels ? { labels } : {}),
    ...(failures.length > 0 ? { failure: failures.join("; ") } : {}),
  };
}

function unknownOutputs({ config }: ModelSettings, { signature }: ModelFile): string[] {
  const outputs = signature.outputs.map((output) => output.name);
  return Object.keys(config.outputs ?? {})
    .filter((name) => !outputs.includes(name))
    .map((name) => `model.yaml: outputs.${name}: expected an output of the model (${outputs.join(", ")})`);
}

function badVersion(name: string): string {
  return `bad version folder: expected a positive whole number, such as 1, got ${JSON.stringify(name)}`;
}

function compareText(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Runs `visit` for every item, at most `atOnce` at a time. */
async function eachOf<Item>(items: readonly Item[], atOnce: number, visit: (item: Item) => Promise<void>): Promise<void> {
  const waiting = items.values();
  const lane = async (): Promise<void> => {
    for (const item of waiting) await visit(item);
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
}
