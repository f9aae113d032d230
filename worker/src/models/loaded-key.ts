import type { ModelVersion } from "@switchyard/protocol";

const keys = new WeakMap<ModelVersion, string>();

/** Tells apart what may be loaded side by side: it depends on the content, on model.yaml, and on the providers that jobs insist on. */
export function loadedKey(version: ModelVersion): string {
  let key = keys.get(version);
  if (key === undefined) {
    key = JSON.stringify([version.model, version.version, version.digest, version.config, version.require?.providers]);
    keys.set(version, key);
  }
  return key;
}
