/** Which requests are equal. Pure: a digest of everything that an answer depends on, in one form whatever form the request came in. */

import { createHash } from "node:crypto";
import { blobThresholdBytes, type ModelVersion, sizeOf } from "@switchyard/protocol";
import type { NewJob } from "../ports/job-store.ts";
import type { CacheTerms } from "../ports/response-cache.ts";

const defaultBytes = 64 * 1024 * 1024;
/** Larger requests are as a rule no repeats, and digesting them would hold everybody else up. */
const largestInputBytes = blobThresholdBytes;

/** A version's part of the key; a version that was published anew, with another configuration, is another object. */
const ofVersion = new WeakMap<ModelVersion, string>();

function versionText(version: ModelVersion): string {
  let text = ofVersion.get(version);
  if (text === undefined) {
    text = JSON.stringify([version.model, version.version, version.digest, version.config]);
    ofVersion.set(version, text);
  }
  return text;
}

/**
 * Nothing for requests that are not to be kept. The frame of the inputs is canonical: a header with names, datatypes and shapes in the
 * signature's order and the outputs that were asked for, then the bytes.
 */
export function cacheTermsOf(job: Pick<NewJob, "inputs" | "tenant">, version: ModelVersion): CacheTerms | undefined {
  const { cache } = version.config;
  if (!cache || sizeOf(job.inputs) > largestInputBytes) return undefined;
  const hash = createHash("sha256").update(versionText(version));
  // JSON, so that no tenant's name can pass for something else
  hash.update(`\n${JSON.stringify(cache.shared ? null : job.tenant)}\n`);
  for (const part of job.inputs) hash.update(part);
  return { key: hash.digest("base64url"), ttlMs: cache.ttl_s * 1_000, bytes: cache.bytes ?? defaultBytes };
}
