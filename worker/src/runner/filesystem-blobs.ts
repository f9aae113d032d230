/**
 * Large values in the folder that the coordinators own, for hosts that share it. Files get their names when they are whole; a blob that is
 * to be kept longer gets one more name. Only coordinators delete.
 */

import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { link, mkdir, open, readdir, readFile, rename, stat, unlink } from "node:fs/promises";
import path from "node:path";
import {
  type BlobReference,
  blobFileName,
  blobFolder,
  blobFolderIdFile,
  blobUnfinishedFolder,
  readBlobFileName,
  SwitchyardError,
} from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { Blobs } from "./blobs.ts";

const finishAttempts = 20;

export class FilesystemBlobs implements Blobs {
  readonly #root: string;
  readonly #clock: Pick<Clock, "nowMs">;

  /** `clock`: that of the store, by which the coordinators delete. */
  constructor(parts: { root: string; clock: Pick<Clock, "nowMs"> }) {
    this.#root = parts.root;
    this.#clock = parts.clock;
  }

  /** The id that a coordinator gave the folder; undefined when it is none of theirs, or cannot be read. */
  folderId(): Promise<string | undefined> {
    return readFile(path.join(this.#root, blobFolderIdFile), "utf8").catch(() => undefined);
  }

  /** Where the bytes lie; undefined when they are gone. */
  async fileOf(sha256: string): Promise<string | undefined> {
    return (await this.#find(sha256))?.file;
  }

  async get(reference: BlobReference): Promise<Uint8Array | undefined> {
    try {
      const found = await this.#find(reference.sha256);
      const bytes = found && (await readWhole(found.file, reference.sizeBytes));
      // a damaged file is as good as none; the coordinators remove it
      return bytes && digestOf(bytes) === reference.sha256 ? bytes : undefined;
    } catch (error) {
      if (isGone(error)) return undefined;
      throw translated(error);
    }
  }

  async put(bytes: Uint8Array, how: { keepMs: number }): Promise<BlobReference> {
    const expiresMs = this.#clock.nowMs() + how.keepMs;
    const reference = { sha256: digestOf(bytes), sizeBytes: bytes.length };
    try {
      if (!(await this.#prolong(reference, expiresMs))) await this.#write(bytes, { sha256: reference.sha256, expiresMs });
      return reference;
    } catch (error) {
      throw translated(error);
    }
  }

  async #find(sha256: string): Promise<{ file: string; expiresMs: number } | undefined> {
    const folder = path.join(this.#root, blobFolder(sha256));
    const names = await readdir(folder).catch((error: unknown) => {
      if (isGone(error)) return [];
      throw error;
    });
    let found: { file: string; expiresMs: number } | undefined;
    for (const name of names) {
      const blob = readBlobFileName(name);
      if (blob?.sha256 !== sha256 || (found && found.expiresMs >= blob.expiresMs)) continue;
      found = { file: path.join(folder, name), expiresMs: blob.expiresMs };
    }
    return found;
  }

  /** Makes an existing blob of this size live until then; false when it must be written. */
  async #prolong({ sha256, sizeBytes }: BlobReference, expiresMs: number): Promise<boolean> {
    const found = await this.#find(sha256);
    const facts = found && (await stat(found.file).catch(() => undefined));
    if (!found || facts?.size !== sizeBytes) return false;
    if (found.expiresMs >= expiresMs) return true;
    try {
      await link(found.file, path.join(this.#root, blobFolder(sha256), blobFileName({ sha256, expiresMs })));
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EEXIST";
    }
  }

  async #write(bytes: Uint8Array, blob: { sha256: string; expiresMs: number }): Promise<void> {
    const unfinished = path.join(this.#root, blobUnfinishedFolder);
    await mkdir(unfinished, { recursive: true });
    const file = path.join(unfinished, randomBytes(12).toString("hex"));
    try {
      const handle = await open(file, "wx", 0o600);
      await handle.writeFile(bytes).finally(() => handle.close());
      const folder = path.join(this.#root, blobFolder(blob.sha256));
      for (let attempt = 1; ; attempt++) {
        try {
          await mkdir(folder, { recursive: true });
          return await rename(file, path.join(folder, blobFileName(blob)));
        } catch (error) {
          // coordinators remove empty folders, this one or the one above it, at any moment
          if (!isGone(error) || attempt === finishAttempts) throw error;
        }
      }
    } catch (error) {
      await unlink(file).catch(() => {});
      throw error;
    }
  }
}

/** The thread has nothing else to do: no pieces, no pauses. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export async function digestOfFile(file: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(file)) hash.update(piece as Uint8Array);
  return hash.digest("hex");
}

async function readWhole(file: string, sizeBytes: number): Promise<Uint8Array | undefined> {
  const handle = await open(file);
  try {
    if ((await handle.stat()).size !== sizeBytes) return undefined;
    const bytes = new Uint8Array(sizeBytes);
    for (let at = 0; at < sizeBytes; ) {
      const { bytesRead } = await handle.read(bytes, at, sizeBytes - at, at);
      if (bytesRead === 0) return undefined;
      at += bytesRead;
    }
    return bytes;
  } finally {
    await handle.close();
  }
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}

function translated(error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  if (code === "ENOSPC" || code === "EDQUOT") return new SwitchyardError("store_full", "the folder for large values has no room left");
  return new SwitchyardError("store_unavailable", `the folder for large values cannot be used: ${code} at ${syscall}`);
}
