/**
 * The blob store in a folder. Files are written under a name of their own and renamed when whole. A blob's file name carries the time until
 * which it is kept, and a blob may have several names (hard links): `put` adds one, `sweep` removes those whose time has passed. No name
 * is ever prolonged, so neither has to know of the other, in whatever process it runs. A file that was damaged loses its names when it is read, or
 * when its bytes come again, which then live as long as it would have.
 */

import { createHash, randomBytes } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { copyFile, type FileHandle, link, mkdir, open, readFile, rename, rmdir, stat, unlink } from "node:fs/promises";
import path from "node:path";
import {
  type BlobFile,
  type BlobReference,
  blobFileName,
  blobFolder,
  blobFolderIdFile,
  blobUnfinishedFolder,
  readBlobFileName,
} from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import { asStoreFault, checkReceived, digestOf, entries, orGone, pieces, UnfinishedFiles } from "./unfinished-files.ts";

/** Names live this much longer: what each machine knows of the shared clock is a little off, more so while its owner is away. */
const clockMarginMs = 60_000;
const finishAttempts = 20;

export class FilesystemBlobs implements BlobStore {
  readonly #root: string;
  readonly #unfinished: UnfinishedFiles;
  readonly #clock: Pick<Clock, "nowMs">;

  /** `clock`: the one that all who write to the folder share. */
  constructor(parts: { root: string; clock: Pick<Clock, "nowMs"> }) {
    this.#root = parts.root;
    this.#unfinished = new UnfinishedFiles(path.join(parts.root, blobUnfinishedFolder));
    this.#clock = parts.clock;
  }

  put(bytes: Uint8Array, how: { keepMs: number }): Promise<BlobReference> {
    return this.#translated(async () => {
      const reference = { sha256: await digestOf(bytes), sizeBytes: bytes.length };
      const expiresMs = Math.max(this.#clock.nowMs() + how.keepMs, await this.#discardDamaged(reference));
      if (await this.#prolong(reference, expiresMs)) return reference;
      const unfinished = await this.#unfinished.write(pieces(bytes));
      await this.#finish(unfinished.file, { sha256: reference.sha256, expiresMs });
      return reference;
    });
  }

  keep(reference: BlobReference, { fromMs = 0, keepMs }: { keepMs: number; fromMs?: number }): Promise<boolean> {
    return this.#translated(() => this.#prolong(reference, Math.max(fromMs, this.#clock.nowMs()) + keepMs));
  }

  receive(stream: AsyncIterable<Uint8Array>, how: Parameters<BlobStore["receive"]>[1]): Promise<BlobReference> {
    return this.#translated(async () => {
      const { file, sha256, sizeBytes } = await this.#unfinished.write(stream);
      let expiresMs: number;
      try {
        checkReceived({ sha256, announced: how.sha256 });
        await how.inspect?.({ file, sha256, sizeBytes, read: () => createReadStream(file) });
        const damagedUntilMs = await this.#discardDamaged({ sha256, sizeBytes });
        // from now on, not from the first byte on, which may be longer ago than it is kept
        expiresMs = Math.max(this.#clock.nowMs() + how.keepMs, damagedUntilMs);
      } catch (error) {
        await orGone(unlink(file));
        throw error;
      }
      await this.#finish(file, { sha256, expiresMs });
      return { sha256, sizeBytes };
    });
  }

  get(reference: BlobReference): Promise<Uint8Array | undefined> {
    return this.#translated(async () => {
      const found = await this.#find(reference.sha256);
      if (!found) return undefined;
      const file = await orGone(open(found.file));
      if (!file) return undefined;
      try {
        const { size, ino } = await file.stat();
        const bytes = size === reference.sizeBytes ? await readWhole(file, size) : undefined;
        if (bytes && (await digestOf(bytes)) === reference.sha256) return bytes;
        await this.#discard(reference.sha256, ino);
        return undefined;
      } finally {
        await file.close();
      }
    });
  }

  open(sha256: string, skipBytes = 0): Promise<{ sizeBytes: number; stream: AsyncIterable<Uint8Array> } | undefined> {
    return this.#translated(async () => {
      const found = await this.#find(sha256);
      const file = found && (await orGone(open(found.file)));
      if (!file) return undefined;
      const { size } = await file.stat();
      return { sizeBytes: size, stream: createReadStream("", { fd: file, autoClose: true, start: skipBytes }) };
    });
  }

  sync({ sha256 }: BlobReference): Promise<void> {
    return this.#translated(async () => {
      const found = await this.#find(sha256);
      if (!found) return; // whoever reads it is told
      // a new name is safe only when its folder is, and that one's name in the folder above
      const inner = path.dirname(found.file);
      for (const name of [found.file, inner, path.dirname(inner), this.#root]) {
        const file = await orGone(open(name));
        await file?.sync().finally(() => file.close());
      }
    });
  }

  sweep(nowMs: number): Promise<{ deleted: number }> {
    return this.#translated(async () => {
      let deleted = 0;
      for (const outer of await entries(this.#root)) {
        if (!/^[0-9a-f]{2}$/.test(outer)) continue;
        for (const inner of await entries(path.join(this.#root, outer))) {
          const folder = path.join(this.#root, outer, inner);
          for (const name of await entries(folder)) {
            const blob = readBlobFileName(name);
            if (!blob || blob.expiresMs + clockMarginMs > nowMs) continue;
            await orGone(unlink(path.join(folder, name)));
            deleted++;
          }
          await rmdir(folder).catch(() => {}); // not empty, or another coordinator was first
        }
        await rmdir(path.join(this.#root, outer)).catch(() => {});
      }
      return { deleted: deleted + (await this.#unfinished.sweep()) };
    });
  }

  id(): Promise<string> {
    return this.#translated(async () => {
      const file = path.join(this.#root, blobFolderIdFile);
      const known = await orGone(readFile(file, "utf8"));
      if (known) return known;
      const { file: fresh } = await this.#unfinished.write([Buffer.from(randomBytes(16).toString("hex"))]);
      // whoever is first names the folder
      await link(fresh, file).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") return rename(fresh, file);
      });
      await orGone(unlink(fresh));
      return readFile(file, "utf8");
    });
  }

  /** Of several names the one that is kept longest. */
  async #find(sha256: string): Promise<(BlobFile & { file: string }) | undefined> {
    const folder = path.join(this.#root, blobFolder(sha256));
    let found: (BlobFile & { file: string }) | undefined;
    for (const name of await entries(folder)) {
      const blob = readBlobFileName(name);
      if (blob?.sha256 !== sha256 || (found && found.expiresMs >= blob.expiresMs)) continue;
      found = { ...blob, file: path.join(folder, name) };
    }
    return found;
  }

  /** Makes an existing blob of this size live until then; false when it must be written. */
  async #prolong(reference: BlobReference, expiresMs: number): Promise<boolean> {
    const { sha256, sizeBytes } = reference;
    const found = await this.#find(sha256);
    const facts = found && (await orGone(stat(found.file)));
    if (!found || facts?.size !== sizeBytes) return false;
    if (found.expiresMs >= expiresMs) return true;
    try {
      await link(found.file, path.join(this.#root, blobFolder(sha256), blobFileName({ sha256, expiresMs })));
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EEXIST") return true;
      if (code === "ENOENT") return false; // swept meanwhile
      return this.#copy(found.file, { sha256, expiresMs });
    }
  }

  /** On a file system without links, or with no room for another one; false when the file is gone. */
  async #copy(from: string, blob: BlobFile): Promise<boolean> {
    const file = await this.#unfinished.newName();
    try {
      await copyFile(from, file, constants.COPYFILE_EXCL);
    } catch (error) {
      await orGone(unlink(file));
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return false;
      throw error;
    }
    await this.#finish(file, blob);
    return true;
  }

  async #finish(unfinished: string, blob: BlobFile): Promise<void> {
    const folder = path.join(this.#root, blobFolder(blob.sha256));
    for (let attempt = 1; ; attempt++) {
      try {
        await mkdir(folder, { recursive: true });
        return await rename(unfinished, path.join(folder, blobFileName(blob)));
      } catch (error) {
        // sweeps remove empty folders, this one or the one above it, at any moment
        if ((error as NodeJS.ErrnoException).code === "ENOENT" && attempt < finishAttempts) continue;
        await orGone(unlink(unfinished));
        throw error;
      }
    }
  }

  /**
   * For one who has the bytes: of what is kept longest under their digest, all that has others goes, or cannot be read. Answers until when it
   * would have been kept.
   */
  async #discardDamaged({ sha256, sizeBytes }: BlobReference): Promise<number> {
    let livedMs = Number.NEGATIVE_INFINITY;
    for (let attempt = 1; attempt <= finishAttempts; attempt++) {
      const found = await this.#find(sha256);
      if (!found) break;
      const file = await orGone(open(found.file));
      if (!file) continue; // swept meanwhile
      try {
        const { ino, size } = await file.stat();
        if (size === sizeBytes && (await digestIn(file).catch(() => undefined)) === sha256) break;
        livedMs = Math.max(livedMs, found.expiresMs);
        await this.#discard(sha256, ino);
      } finally {
        await file.close();
      }
    }
    return livedMs;
  }

  /** Removes the names of one damaged file, so that the next put of the same bytes writes them anew. */
  async #discard(sha256: string, ino: number): Promise<void> {
    const folder = path.join(this.#root, blobFolder(sha256));
    for (const name of await entries(folder)) {
      if (!name.startsWith(sha256)) continue;
      const file = path.join(folder, name);
      if ((await orGone(stat(file)))?.ino === ino) await orGone(unlink(file));
    }
  }

  async #translated<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw asStoreFault(error, { root: this.#root, what: "the folder for large values" });
    }
  }
}

async function readWhole(file: { read: Awaited<ReturnType<typeof open>>["read"] }, sizeBytes: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(sizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    const { bytesRead } = await file.read(bytes, at, sizeBytes - at, at);
    if (bytesRead === 0) return undefined;
    at += bytesRead;
  }
  return bytes;
}

async function digestIn(file: FileHandle): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of file.createReadStream({ start: 0, autoClose: false })) hash.update(piece as Uint8Array);
  return hash.digest("hex");
}
