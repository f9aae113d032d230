/**
 * Aliases: set, looked at, promoted and rolled back. A version takes an alias's requests over only when a host has it loaded, so that no request
 * waits for a load or fails for one.
 */

import {
  type AliasTarget,
  aliasPattern,
  defaultAlias,
  type ModelAlias,
  type ModelVersion,
  quoted,
  SwitchyardError,
} from "@switchyard/protocol";
import { aliasTargetSchema, faultsOf } from "@switchyard/protocol/schemas";
import type { Clock } from "../clock.ts";
import type { AliasStore } from "../ports/alias-store.ts";
import type { Log } from "../ports/log.ts";
import type { ModelRegistry } from "../ports/model-registry.ts";
import type { UploadStore } from "../ports/upload-store.ts";
import type { ModelLoads } from "./model-loads.ts";
import { untilDone } from "./until-done.ts";
import { beingRemoved } from "./version-removal.ts";

const mostPrevious = 10;
const mostAliases = 64;

export interface ModelAliasesParts {
  store: AliasStore;
  models: ModelRegistry;
  uploads: Pick<UploadStore, "find">;
  loads: Pick<ModelLoads, "ensure">;
  /** Reads the store again. */
  takeOver: () => Promise<void>;
  clock: Clock;
  log: Log;
}

export interface AliasName {
  model: string;
  alias: string;
}

export class ModelAliases {
  readonly #parts: ModelAliasesParts;

  constructor(parts: ModelAliasesParts) {
    this.#parts = parts;
  }

  /** As they stand in the store now, by name. Throws `model_not_found`. */
  async list(model: string): Promise<[string, ModelAlias][]> {
    this.#requireModel(model);
    const all = await this.#parts.store.all();
    return [...(all.get(model) ?? [])].sort(([one], [other]) => (one < other ? -1 : 1));
  }

  /** Throws `alias_not_found`. */
  async get({ alias, model }: AliasName): Promise<ModelAlias> {
    const found = (await this.#parts.store.all()).get(model)?.get(alias);
    if (found) return found;
    throw aliasNotFound({ alias, model });
  }

  /** `body`: an AliasTarget, unchecked. Throws `invalid_request`, `version_not_found`. Waits for no load. */
  async put(of: AliasName, body: unknown): Promise<ModelAlias> {
    const parsed = aliasTargetSchema.safeParse(body);
    if (!parsed.success) throw refused("body", faultsOf(parsed.error, aliasTargetSchema, body), quoted(body));
    this.#checkName(of);
    const versions = await this.#checkTarget(of, parsed.data);
    return this.#set(of, versions, () => parsed.data);
  }

  async remove(of: AliasName): Promise<void> {
    if (of.alias !== defaultAlias) {
      const fallback = (await this.#parts.store.all()).get(of.model)?.get(defaultAlias);
      if (fallback?.target.alias === of.alias) throw refused("alias", "one that the default of the model does not stand for", of.alias);
    }
    await this.#parts.store.change(of, (before) => {
      if (before === undefined) throw aliasNotFound(of);
      return undefined;
    });
    await this.#parts.takeOver();
    this.#parts.log.info("alias_removed", { ...of });
  }

  /**
   * Gives all requests of the alias to one version, once a host has it loaded; its split and shadow end. `from`: the one version of another
   * alias. Throws `model_failed` with the reason when it does not load, and `model_not_ready` when that takes too long, and
   * `changed_meanwhile` when the alias was changed while it waited; nothing has changed then.
   */
  async promote(of: AliasName, to: { version?: number | undefined; from?: string | undefined }, signal: AbortSignal): Promise<ModelAlias> {
    this.#checkName(of);
    const version = to.from === undefined ? to.version : (await this.get({ ...of, alias: to.from })).target.version;
    if (version === undefined) throw refused("version", "a version, or in from an alias of one version", String(to.from ?? to.version));
    const target: AliasTarget = { version };
    const [wanted] = await this.#checkTarget(of, target);
    const found = (await this.#parts.store.all()).get(of.model)?.get(of.alias);
    await this.#parts.loads.ensure(wanted!, signal);
    // it may have been removed while this waited, and another version with its content been held
    const versions = await this.#checkTarget(of, target);
    return this.#set(of, versions, (before) => {
      const isAsFound = JSON.stringify(before) === JSON.stringify(found);
      if (!isAsFound && !(before && isEqual(before.target, target))) throw changed(of);
      return target;
    });
  }

  /** What it stood for before. Throws `invalid_request` when there is nothing to go back to. */
  async rollBack(of: AliasName, signal: AbortSignal): Promise<ModelAlias> {
    const { previous } = await this.get(of);
    const [target] = previous;
    if (!target) throw refused("alias", "one that stood for something else before", of.alias);
    const [wanted] = await this.#checkTarget(of, target);
    // the version that is to be left may be what keeps hosts busy: whatever loads of the others is enough
    await this.#parts.loads.ensure(wanted!, signal);
    const versions = await this.#checkTarget(of, target);
    return this.#set(of, versions, (before) => {
      if (JSON.stringify(before?.previous[0]) !== JSON.stringify(target)) throw changed(of);
      return target;
    });
  }

  /**
   * `versions`: those that the target names. Whoever removes one marks it before looking at aliases, and this looks at the mark after the alias is
   * written: one of both sees the other, and gives in. A roll back takes the step back out of the history, so that a second one goes further back.
   */
  async #set(
    of: AliasName,
    versions: readonly ModelVersion[],
    targetOf: (before: ModelAlias | undefined) => AliasTarget,
  ): Promise<ModelAlias> {
    const { log, store, takeOver } = this.#parts;
    await this.#mustStay(versions);
    let found: ModelAlias | undefined;
    const made = await store.change(of, (before, nowMs) => {
      found = before;
      const target = targetOf(before);
      if (before === undefined) return { target, previous: [], updatedMs: nowMs };
      if (isEqual(before.target, target)) return before;
      const isBack = before.previous[0] !== undefined && isEqual(before.previous[0], target);
      const previous = isBack ? before.previous.slice(1) : [before.target, ...before.previous].slice(0, mostPrevious);
      return { target, previous, updatedMs: nowMs };
    });
    try {
      await this.#mustStay(versions);
    } catch (error) {
      await this.#takeBack(of, made, found);
      throw error;
    }
    await takeOver();
    log.info("alias_set", { ...of, target: JSON.stringify(made!.target) });
    return made!;
  }

  /** As they stand in the store. Throws `version_not_found` for an uploaded one that is gone, `model_not_ready` for one that is being removed. */
  async #mustStay(versions: readonly ModelVersion[]): Promise<void> {
    for (const { files, model, version } of versions) {
      if (files === undefined) continue; // of the repository's folder
      const found = await this.#parts.uploads.find({ model, version });
      if (!found) throw new SwitchyardError("version_not_found", `Version ${version} of model ${model} was just removed`);
      if (found.leavingMs !== undefined) throw beingRemoved(found);
    }
  }

  async #takeBack(of: AliasName, made: ModelAlias | undefined, before: ModelAlias | undefined): Promise<void> {
    const { clock, log, store } = this.#parts;
    const isDone = await untilDone(clock, () => store.change(of, (now) => (JSON.stringify(now) === JSON.stringify(made) ? before : now)));
    if (!isDone) log.warn("alias_not_taken_back", { ...of });
  }

  #requireModel(model: string): void {
    if (this.#parts.models.versions(model).length === 0) this.#parts.models.resolve(model); // throws, with the reason
  }

  #checkName({ alias, model }: AliasName): void {
    if (!aliasPattern.test(alias)) {
      throw refused("alias", "a small letter, then at most 31 small letters, digits or dashes", alias);
    }
    if ((this.#parts.models.aliases(model)?.size ?? 0) >= mostAliases && !this.#parts.models.aliases(model)?.has(alias)) {
      throw refused("alias", `at most ${mostAliases} aliases of a model`, alias);
    }
  }

  /** The versions that the target names, its shadow last, all of them known here. Those that share traffic take the same inputs. */
  async #checkTarget({ alias, model }: AliasName, target: AliasTarget): Promise<ModelVersion[]> {
    this.#requireModel(model);
    if (target.alias !== undefined) {
      if (alias !== defaultAlias || target.alias === defaultAlias) throw refused("alias", "a version or a split", target.alias);
      const { target: other } = await this.get({ model, alias: target.alias });
      return this.#checkTarget({ alias: target.alias, model }, other);
    }
    const numbers = target.version === undefined ? Object.keys(target.split ?? {}).map(Number) : [target.version];
    const versions = numbers.map((number) => this.#version(model, number));
    const shadow = target.shadow && this.#version(model, target.shadow.version);
    if (shadow && numbers.includes(shadow.version))
      throw refused("/shadow/version", "a version that takes no requests itself", String(shadow.version));
    const all = shadow ? [...versions, shadow] : versions;
    const [first, ...others] = all;
    for (const other of others) {
      if (inputsOf(other) === inputsOf(first!)) continue;
      throw refused(
        "version",
        `versions with the same inputs as ${first!.version}: ${inputsOf(first!)}`,
        `${other.version}: ${inputsOf(other)}`,
      );
    }
    return all;
  }

  #version(model: string, number: number): ModelVersion {
    const { reason, state, version } = this.#parts.models.resolve(model, number);
    if (state === "unloaded") throw new SwitchyardError("model_unloaded", `model ${model} was unloaded by request; load it first`);
    if (state === "leaving") throw beingRemoved(version);
    if (state !== "failed") return version;
    throw new SwitchyardError("model_failed", `model ${model} version ${number} failed to load: ${reason}`);
  }
}

const isEqual = (one: AliasTarget, other: AliasTarget): boolean => JSON.stringify(one) === JSON.stringify(other);

function inputsOf({ signature }: ModelVersion): string {
  return signature.inputs
    .map(({ datatype, name, shape }) => `${name} ${datatype} [${shape}]`)
    .sort()
    .join(", ");
}

function aliasNotFound({ alias, model }: AliasName): SwitchyardError {
  return new SwitchyardError("alias_not_found", `model ${model} has no alias '${alias.slice(0, 64)}'`);
}

function changed({ alias, model }: AliasName): SwitchyardError {
  return new SwitchyardError(
    "changed_meanwhile",
    `Somebody else changed the alias '${alias}' of model ${model} meanwhile: look at it, and decide again`,
  );
}

function refused(pointer: string, expected: string, got: string): SwitchyardError {
  const detail = `${pointer}: expected ${expected}, got ${got.slice(0, 100)}`;
  return new SwitchyardError("invalid_request", detail, { fields: [{ pointer, expected, got: got.slice(0, 100) }] });
}
