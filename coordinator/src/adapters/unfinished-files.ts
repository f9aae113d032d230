/** Files that are still being written, each under a name of its own in one folder, and what both blob stores do with bytes and files. */

import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, stat, unlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { SwitchyardError } from "@switchyard/protocol";

/** Nobody writes one file for so long. */
export const unfinishedMs = 3_600_000;
/** Digests are computed in pieces, so that the event loop is never held for more than a few milliseconds. */
const pieceBytes = 1024 * 1024;

export interface UnfinishedFile {
  file: string;
  sha256: string;
  sizeBytes: number;
}

export class UnfinishedFiles {
  readonly #folder: string;

  /** The folder is made when it is needed. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** A name that nobody has, in the folder. */
  async newName(): Promise<string> {
    await mkdir(this.#folder, { recursive: true });
    return path.join(this.#folder, randomBytes(12).toString("hex"));
  }

  /** Whoever calls renames or removes the file. A stream that breaks off leaves none. */
  async write(content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<UnfinishedFile> {
    const file = await this.newName();
    const handle = await open(file, "wx", 0o600);
    try {
      const hash = createHash("sha256");
      let sizeBytes = 0;
      for await (const piece of content) {
        hash.update(piece);
        await handle.writeFile(piece);
        sizeBytes += piece.length;
      }
      return { file, sha256: hash.digest("hex"), sizeBytes };
    } catch (error) {
      await orGone(unlink(file));
      throw error;
    } finally {
      await handle.close();
    }
  }

  /** Removes what processes that died have left; answers how many. */
  async sweep(): Promise<number> {
    const names = await entries(this.#folder);
    if (names.length === 0) return 0;
    const nowMs = await this.#diskMs();
    let deleted = 0;
    for (const name of names) {
      const file = path.join(this.#folder, name);
      const facts = await orGone(stat(file));
      if (!facts || facts.mtimeMs + unfinishedMs > nowMs) continue;
      await orGone(unlink(file));
      deleted++;
    }
    return deleted;
  }

  /** The time by which the disk dates its files, which may be another machine's. */
  async #diskMs(): Promise<number> {
    const file = await this.newName();
    try {
      await writeFile(file, "", { flag: "wx" });
      return (await stat(file)).mtimeMs;
    } finally {
      await orGone(unlink(file));
    }
  }
}

export function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

export async function digestOf(bytes: Uint8Array): Promise<string> {
  const hash = createHash("sha256");
  for (const piece of pieces(bytes)) {
    hash.update(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return hash.digest("hex");
}

export async function entries(folder: string): Promise<string[]> {
  return (await orGone(readdir(folder))) ?? [];
}

/** Undefined when the file or folder does not exist (any more). */
export async function orGone<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Throws `invalid_request` for bytes that are not those which were announced. */
export function checkReceived({ sha256, announced }: { sha256: string; announced: string | undefined }): void {
  if (announced === undefined || sha256 === announced) return;
  throw new SwitchyardError("invalid_request", `The body's SHA-256 is ${sha256}, not ${announced}`, {
    fields: [{ pointer: "sha256", expected: "the digest of the body", got: announced }],
  });
}

/** What a failing file system means to callers, without its paths; other errors as they are. `what`: as "the folder for large values". */
export function asStoreFault(error: unknown, { root, what }: { root: string; what: string }): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (error instanceof SwitchyardError || typeof code !== "string" || !("syscall" in (error as object))) return error;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new SwitchyardError("store_full", `${what} has no room left; try again later`, { retryAfterMs: 1_000 });
  }
  const detail = `${what} cannot be used: ${message.replaceAll(root, "<blobs>")}`;
  return new SwitchyardError("store_unavailable", detail, { retryAfterMs: 1_000 });
}
