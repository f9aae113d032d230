/**
 * The file of API keys. A new content is taken over whole and at once, or not at all: while it is broken or missing the keys that were
 * read last stay valid, and that is said once. Holds digests, never secrets.
 */

import { readFileSync } from "node:fs";
import { type ApiKeyEntry, checkKeyFile, digestOfSecret, expiryMs } from "@switchyard/protocol/api-keys";
import type { ApiKey, KeyRing } from "../ports/key-ring.ts";
import type { Log } from "../ports/log.ts";
import { type Fingerprint, fingerprintOf, sameFingerprint } from "./model-file.ts";
import { readYaml } from "./yaml-document.ts";

const largestBytes = 16 << 20;
/** No key is longer: what is presented beyond is not worth a hash. */
const largestSecretChars = 512;

/** Every entry, or every mistake with file and line. */
export function readKeyFile(path: string): { entries: ApiKeyEntry[] } | { mistakes: string[] } {
  let text: string;
  try {
    const size = fingerprintOf(path)?.size ?? 0;
    if (size > largestBytes) return { mistakes: [`${path}: expected at most ${largestBytes} bytes, got ${size}`] };
    text = readFileSync(path, "utf8");
  } catch (error) {
    return { mistakes: [`${path}: expected a readable file, got ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`] };
  }
  const document = readYaml(text);
  if ("problem" in document) return { mistakes: [`${path}: ${document.problem}`] };
  const checked = checkKeyFile(document.value);
  if ("entries" in checked) return checked;
  return { mistakes: checked.mistakes.map((mistake) => `${path}:${document.lineOf(mistake.path)}: ${mistake.text}`) };
}

/** For the check of the configuration, before anything starts. */
export function keyFileMistakes(path: string): readonly string[] {
  const read = readKeyFile(path);
  return "mistakes" in read ? read.mistakes : [];
}

/**
 * By digest: a comparison that ends at the first difference tells how far two digests agree, and nobody can choose a secret that has a
 * wanted digest, so the time of a lookup says nothing that would help to find one.
 */
function byDigest(entries: readonly ApiKeyEntry[]): Map<string, ApiKey> {
  return new Map(
    entries.map(({ id, sha256, tenant, weight, scopes, models, expires }) => {
      const key: ApiKey = { id, tenant, weight, scopes: new Set(scopes) };
      if (models) key.models = new Set(models);
      const expiresMs = expires === undefined ? undefined : expiryMs(expires);
      if (expiresMs !== undefined) key.expiresMs = expiresMs;
      return [sha256, key];
    }),
  );
}

export class KeyFile implements KeyRing {
  readonly #path: string;
  readonly #log: Log;
  #keys: Map<string, ApiKey>;
  /** What the keys, or the last complaint, came from. */
  #known: Fingerprint | undefined;
  /** What the last look saw: a file that is being written is left to settle. */
  #seen: Fingerprint | undefined;

  /** Throws with every mistake when the file cannot be used. */
  constructor(file: { path: string; log: Log }) {
    this.#path = file.path;
    this.#log = file.log;
    this.#known = fingerprintOf(file.path);
    this.#seen = this.#known;
    const read = readKeyFile(file.path);
    if ("mistakes" in read) throw new Error(`the API keys cannot be used:\n${read.mistakes.map((line) => `  ${line}`).join("\n")}`);
    this.#keys = byDigest(read.entries);
  }

  find(secret: string): ApiKey | undefined {
    return secret.length > largestSecretChars ? undefined : this.#keys.get(digestOfSecret(secret));
  }

  all(): readonly ApiKey[] {
    return [...this.#keys.values()];
  }

  /** One look at the file; a change is taken over by the second look that sees it. */
  async look(): Promise<void> {
    const now = fingerprintOf(this.#path);
    const isSettled = sameFingerprint(now, this.#seen);
    this.#seen = now;
    if (!isSettled || sameFingerprint(now, this.#known)) return;
    this.#known = now;
    const read = readKeyFile(this.#path);
    if ("mistakes" in read) {
      const mistakes = read.mistakes.join("; ");
      this.#log.error("api_keys_kept", { message: `the keys that were read before stay valid: ${mistakes}`, keys: this.#keys.size });
      return;
    }
    this.#keys = byDigest(read.entries);
    this.#log.info("api_keys_read", { keys: this.#keys.size });
  }
}
