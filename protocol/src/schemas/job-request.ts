/** The body of `POST /v1/jobs`: an inference request of the Open Inference Protocol plus what the job itself needs. Strict: unknown fields are refused. */

import { asObject, type InferBody, type InferRequest, openBody, readInferRequest } from "../infer-request.ts";
import { type Durability, durabilities, type JobClass, jobClasses, maxTimeoutMs } from "../job-states.ts";
import { modelNamePattern } from "../model.ts";
import { aliasPattern } from "../model-alias.ts";
import { describe, pointerSegment, refuse, shown } from "../request-fault.ts";
import { type Requirement, requirementSchema } from "./requirement.ts";

export const maxJobAttempts = 10;
export const maxTags = 16;
/** Characters of a tag's key and of its value. */
export const maxTagChars = 256;

export interface JobRequest {
  model: string;
  version?: number;
  /** In the place of a version. */
  alias?: string;
  request: InferRequest;
  timeoutMs?: number;
  class?: JobClass;
  maxAttempts?: number;
  durability?: Durability;
  /** As sent: a URL or an object; whoever sends webhooks checks it. */
  webhook?: unknown;
  tags?: Record<string, string>;
  /** What a host must have beyond what the model requires. */
  require?: Requirement;
  /** Wait until the deadline for a host that has what is required, instead of being refused while there is none. */
  waitForHost?: boolean;
  /** Field `idempotency_key`; stands beside the header of the same meaning. */
  idempotencyKey?: string;
}

const fields = new Set([
  "model",
  "version",
  "id",
  "parameters",
  "inputs",
  "outputs",
  "timeout_ms",
  "class",
  "max_attempts",
  "durability",
  "webhook",
  "tags",
  "require",
  "wait_for_host",
  "idempotency_key",
]);

/** Throws `invalid_request` with `facts.fields`, whatever the bytes are. */
export function decodeJobRequest(source: InferBody): JobRequest {
  const { header, document, rest } = openBody(source);
  for (const key of Object.keys(header)) if (!fields.has(key)) throw unknownField(key);
  const job: JobRequest = { model: readModel(header.model), request: readInferRequest(header, document, rest) };
  if (typeof header.version === "string") job.alias = readAlias(header.version);
  else if (header.version !== undefined) job.version = readWhole(header.version, "version", 1, Number.MAX_SAFE_INTEGER);
  if (header.timeout_ms !== undefined) job.timeoutMs = readWhole(header.timeout_ms, "timeout_ms", 1, maxTimeoutMs);
  if (header.class !== undefined) job.class = readWord(header.class, "class", jobClasses);
  if (header.max_attempts !== undefined) job.maxAttempts = readWhole(header.max_attempts, "max_attempts", 1, maxJobAttempts);
  if (header.durability !== undefined) job.durability = readWord(header.durability, "durability", durabilities);
  if (header.webhook !== undefined) job.webhook = header.webhook;
  if (header.tags !== undefined) job.tags = readTags(header.tags);
  if (header.require !== undefined) job.require = readRequirement(header.require);
  if (header.wait_for_host !== undefined) job.waitForHost = readFlag(header.wait_for_host, "wait_for_host");
  if (header.idempotency_key !== undefined) job.idempotencyKey = readKey(header.idempotency_key);
  return job;
}

function unknownField(key: string) {
  const expected = [...fields].join(", ");
  return refuse({ at: `/${pointerSegment(key)}`, expected, got: key, detail: `Unknown field '${shown(key)}'; known are ${expected}` });
}

function readModel(value: unknown): string {
  if (typeof value === "string" && modelNamePattern.test(value)) return value;
  const expected = "a model name: letters, digits, '.', '_' and '-', at most 128";
  throw refuse({ at: "/model", expected, got: value, detail: `model must be ${expected}; got ${describe(value)}` });
}

function readAlias(value: string): string {
  if (aliasPattern.test(value)) return value;
  const expected = "a whole number, or an alias: a small letter, then at most 31 small letters, digits and dashes";
  throw refuse({ at: "/version", expected, got: value, detail: `version must be ${expected}; got ${describe(value)}` });
}

function readWhole(value: unknown, field: string, min: number, max: number): number {
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  const expected = `a whole number from ${min} to ${max}`;
  throw refuse({ at: `/${field}`, expected, got: value, detail: `${field} must be ${expected}; got ${describe(value)}` });
}

function readWord<Word extends string>(value: unknown, field: string, words: readonly Word[]): Word {
  const word = words.find((candidate) => candidate === value);
  if (word !== undefined) return word;
  const expected = `one of ${words.join(", ")}`;
  throw refuse({ at: `/${field}`, expected, got: value, detail: `${field} must be ${expected}; got ${describe(value)}` });
}

/** The client's own object, checked in place, so that every key is data. */
function readTags(value: unknown): Record<string, string> {
  const tags = asObject(value, "/tags", "tags");
  const keys = Object.keys(tags);
  if (keys.length > maxTags) {
    throw refuse({ at: "/tags", expected: `at most ${maxTags} tags`, got: keys.length, detail: `A job has at most ${maxTags} tags` });
  }
  for (const key of keys) {
    const tag = tags[key];
    if (key === "" || key.length > maxTagChars || typeof tag !== "string" || tag.length > maxTagChars) {
      const expected = `a key of 1 to ${maxTagChars} characters and a string of at most ${maxTagChars}`;
      throw refuse({ at: `/tags/${pointerSegment(key)}`, expected, got: tag, detail: `Tag '${shown(key)}' must have ${expected}` });
    }
  }
  return tags as Record<string, string>;
}

const maxRequired = 16;

function readRequirement(value: unknown): Requirement {
  const read = requirementSchema.safeParse(value);
  if (!read.success) {
    const [issue] = read.error.issues;
    const unknown = issue!.code === "unrecognized_keys" ? issue!.keys[0] : undefined;
    const path = [...issue!.path, ...(unknown === undefined ? [] : [unknown])].map(String);
    const at = `/require${path.map((step) => `/${pointerSegment(step)}`).join("")}`;
    const expected = unknown === undefined ? requirementWords[String(path[0])] : "providers, gpu_memory_mb, frameworks, labels";
    const got = path.reduce<unknown>((inner, step) => (inner as Record<string, unknown> | undefined)?.[step], value);
    const detail = `${["require", ...path].map(shown).join(".")} must be ${expected ?? "an object"}; got ${describe(got)}`;
    throw refuse({ at, expected: expected ?? "an object", got, detail });
  }
  const { providers = [], frameworks = [], labels = {} } = read.data;
  const count = providers.length + frameworks.length + Object.keys(labels).length;
  if (count <= maxRequired && JSON.stringify(read.data).length <= 4_096) return read.data;
  const expected = `at most ${maxRequired} providers, frameworks and labels in at most 4096 characters`;
  throw refuse({ at: "/require", expected, got: count, detail: `require must have ${expected}` });
}

const requirementWords: Readonly<Record<string, string>> = {
  providers: "a list of names of execution providers, at least one",
  gpu_memory_mb: "a whole number above 0",
  frameworks: "a list of names of frameworks, at least one",
  labels: "an object of strings",
};

function readFlag(value: unknown, field: string): boolean {
  if (typeof value === "boolean") return value;
  throw refuse({
    at: `/${field}`,
    expected: "true or false",
    got: value,
    detail: `${field} must be true or false; got ${describe(value)}`,
  });
}

function readKey(value: unknown): string {
  if (typeof value === "string" && value !== "" && new TextEncoder().encode(value).length <= 255) return value;
  const expected = "a string of 1 to 255 bytes";
  throw refuse({ at: "/idempotency_key", expected, got: value, detail: `idempotency_key must be ${expected}` });
}
