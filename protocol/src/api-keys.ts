/**
 * Access by API key: scopes, secrets, and the file that says which key may do what. The file holds the SHA-256 of each secret and never
 * the secret; whoever reads it cannot call. Coordinators read it, `switchyard keys` writes it.
 */

import { hash } from "node:crypto";
import { z } from "zod";
import { modelNamePattern } from "./model.ts";
import { type SchemaFault, schemaFaults, valueInWords } from "./schemas/schema-faults.ts";
import { scopes } from "./scopes.ts";

export { type Scope, scopes } from "./scopes.ts";

/** Tenants become parts of Redis keys and of lines that people read: nothing that separates or quotes. */
export const tenantPattern: RegExp = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
const keyIdPattern: RegExp = /^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$/;
/** Beyond these, shares of one tenant against another are no longer numbers that anybody could mean. */
const leastWeight = 1e-6;
const largestWeight = 1e6;

const nameOf = (what: string) => `${what}: letters, digits, dots, dashes and underscores, beginning with a letter or digit`;

const entrySchema = z.strictObject({
  id: z.string().regex(keyIdPattern, nameOf("an id of at most 96 characters")),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, "64 lower-case hexadecimal digits, the SHA-256 of the secret"),
  tenant: z.string().regex(tenantPattern, nameOf("a name of at most 63 characters")),
  /** The tenant's share against other tenants; the same in all entries of a tenant. */
  weight: z.number().refine((weight) => weight >= leastWeight && weight <= largestWeight, "a number from 0.000001 to 1000000"),
  scopes: z.array(z.enum(scopes)).min(1),
  /** Absent: all models. */
  models: z.array(z.string().regex(modelNamePattern, "a model's name")).min(1).optional(),
  /** Absent: never. */
  expires: z
    .string()
    .refine((text) => expiryMs(text) !== undefined, "an RFC 3339 time such as 2030-01-31T12:00:00Z, or a date, which ends at its beginning")
    .optional(),
});

const fileSchema = z.array(entrySchema);

export type ApiKeyEntry = z.infer<typeof entrySchema>;

export type CheckedKeyFile = { entries: ApiKeyEntry[] } | { mistakes: SchemaFault[] };

/**
 * Checks the parsed document of a key file. All mistakes at once; each text names entry and field. An empty document is a mistake, so that
 * a file that was truncated does not pass for one that lets nobody in; `[]` is how to say that.
 */
export function checkKeyFile(document: unknown): CheckedKeyFile {
  const parsed = fileSchema.safeParse(document);
  // entries that are right on their own can contradict one another, also beside one that is wrong
  const right = Array.isArray(document) ? document.map((entry) => entrySchema.safeParse(entry).data) : [];
  const faults = [...schemaFaults(fileSchema, parsed.error?.issues ?? [], document, withoutSecrets), ...contradictions(right)];
  if (parsed.success && faults.length === 0) return { entries: parsed.data };
  faults.sort((one, other) => Number(one.path[0] ?? -1) - Number(other.path[0] ?? -1));
  return { mistakes: faults.map(({ path, text }) => ({ path, text: `${placeOf(path, document)}${text}` })) };
}

/** Whoever takes the secret for its hash must not find it in a log. */
function withoutSecrets(value: unknown, path: readonly PropertyKey[]): string {
  if (path.at(-1) === "sha256" && typeof value === "string") return `another text of ${value.length} characters`;
  const text = valueInWords(value);
  return text.includes(secretPrefix) ? "a secret" : text;
}

function placeOf(path: readonly PropertyKey[], document: unknown): string {
  const [entry, ...field] = path;
  if (typeof entry !== "number") return "";
  const id: unknown = (document as { id?: unknown }[])[entry]?.id;
  const named = typeof id === "string" && keyIdPattern.test(id) ? ` (${id})` : "";
  const [first, ...rest] = field;
  const inside = first === undefined ? "" : `${String(first)}${rest.map((step) => `[${String(step)}]`).join("")}: `;
  return `entry ${entry + 1}${named}: ${inside}`;
}

/** What no entry shows alone. */
function contradictions(entries: readonly (ApiKeyEntry | undefined)[]): SchemaFault[] {
  const faults: SchemaFault[] = [];
  const ids = new Map<string, number>();
  const digests = new Map<string, number>();
  const weights = new Map<string, { at: number; weight: number }>();
  for (const [at, entry] of entries.entries()) {
    if (entry === undefined) continue;
    const { id, sha256, tenant, weight } = entry;
    const sameId = ids.get(id);
    if (sameId !== undefined)
      faults.push({ path: [at, "id"], text: `expected an id of its own, got ${id}, which entry ${sameId + 1} has` });
    const sameDigest = digests.get(sha256);
    if (sameDigest !== undefined)
      faults.push({ path: [at, "sha256"], text: `expected a secret of its own, got that of entry ${sameDigest + 1}` });
    const first = weights.get(tenant);
    if (first !== undefined && first.weight !== weight) {
      const expected = `${first.weight}, the weight of tenant ${tenant} in entry ${first.at + 1}`;
      faults.push({ path: [at, "weight"], text: `expected ${expected}, got ${weight}` });
    }
    if (sameId === undefined) ids.set(id, at);
    if (sameDigest === undefined) digests.set(sha256, at);
    if (first === undefined) weights.set(tenant, { at, weight });
  }
  return faults;
}

/** Milliseconds since the epoch; undefined when the text is no such time. A date alone is its midnight in UTC. */
export function expiryMs(text: string): number | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)(T\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d))?$/.exec(text);
  if (match === null) return undefined;
  const [year, month, day] = match.slice(1, 4).map(Number) as [number, number, number];
  const midnight = new Date(Date.UTC(year, month - 1, day)); // 30 February would become a day in March
  if (midnight.getUTCMonth() !== month - 1 || midnight.getUTCDate() !== day) return undefined;
  const ms = match[4] === undefined ? midnight.getTime() : Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

const secretPrefix = "swy_";
const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** 256 bits in digits of base 62. */
const secretDigits = 43;

/** The secret that these 256 random bits are: a prefix by which scanners know it, and digits that a double click selects whole. */
export function secretOf(random: Uint8Array): string {
  let rest = BigInt(`0x${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`);
  let text = "";
  for (let at = 0; at < secretDigits; at++) {
    text = digits[Number(rest % 62n)] + text;
    rest /= 62n;
  }
  return secretPrefix + text;
}

export function digestOfSecret(secret: string): string {
  return hash("sha256", secret, "hex");
}
