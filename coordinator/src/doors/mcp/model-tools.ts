/** Which models have a tool of their own, under which names, and how a client's copy of such a tool is told from the tool as it is now. */

import { createHash } from "node:crypto";
import type { RequestMeta } from "@modelcontextprotocol/server";
import { type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import { type Caller, mayUse } from "../../application/caller.ts";
import type { ModelRegistry, ModelStatus } from "../../ports/model-registry.ts";

const prefix = "infer_";
/** As much as interfaces of language models take. */
const maxNameChars = 64;
const hashChars = 6;

export const signatureMetaKey = "switchyard/signature";
const versionMetaKey = "switchyard/version";

/** The model's own name where that can be one of a tool; else as much of it as can, and a mark that tells it from others. */
export function toolNameOf(model: string): string {
  const plain = model.replaceAll(/[^A-Za-z0-9_-]/g, "_");
  if (plain === model && prefix.length + model.length <= maxNameChars && !reserved.has(model)) return `${prefix}${model}`;
  const mark = createHash("sha256").update(model).digest("hex").slice(0, hashChars);
  return `${prefix}${plain.slice(0, maxNameChars - prefix.length - hashChars - 1)}_${mark}`;
}

/** Names that are other tools' behind the prefix. */
const reserved = new Set(["batch"]);

/** The model that a tool's name stands for, listed or not; undefined when there is none. */
export function modelOf(name: string, models: ModelRegistry): string | undefined {
  if (!name.startsWith(prefix)) return undefined;
  const plain = name.slice(prefix.length);
  if (!reserved.has(plain) && models.versions(plain).length > 0) return plain;
  return models.list().find(({ version }) => toolNameOf(version.model) === name)?.version.model;
}

/** Names of models that the caller may use and that take jobs. */
export function servedModels(listed: readonly ModelStatus[], caller: Caller): string[] {
  const served = listed.filter(({ state, version }) => (state === "ready" || state === "available") && mayUse(caller, version.model));
  return [...new Set(served.map(({ version }) => version.model))].sort();
}

/** The version that serves a model's calls, or most of them: what a tool says must not change from one look to the next. Undefined while none does. */
export function servedVersion(models: ModelRegistry, model: string): ModelStatus | undefined {
  try {
    const status = models.usual(model);
    return status.state === "ready" || status.state === "available" ? status : undefined;
  } catch (error) {
    if (error instanceof SwitchyardError) return undefined;
    throw error;
  }
}

/** All that a tool's definition says of the model. */
export function signatureMark({ config, labels, signature }: ModelVersion): string {
  const said = JSON.stringify([signature.inputs, signature.outputs, config.image ?? null, labels ?? null]);
  return createHash("sha256").update(said).digest("base64url").slice(0, 22);
}

export function signatureMeta(version: ModelVersion): Record<string, unknown> {
  return { [signatureMetaKey]: signatureMark(version), [versionMetaKey]: version.version };
}

/** A client may send the mark of the definition that it went by. Throws `signature_mismatch` when that is not the definition any more. */
export function refuseDrift(meta: RequestMeta | undefined, version: ModelVersion): void {
  const known = meta?.[signatureMetaKey];
  if (known === undefined || known === signatureMark(version)) return;
  throw new SwitchyardError(
    "signature_mismatch",
    `The model ${version.model} has changed: list the tools again, and call it as it is now`,
    {
      fields: [{ pointer: `/_meta/${signatureMetaKey}`, expected: signatureMark(version), got: String(known).slice(0, 64) }],
    },
  );
}
