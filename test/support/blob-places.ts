/** Places of large values for tests of them: a folder and a bucket, each with its owner, a door in front of it, and a clock that the test sets. */

import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { blobFolder, SwitchyardError } from "@switchyard/protocol";
import Fastify, { type FastifyInstance } from "fastify";
import { FilesystemBlobs } from "../../coordinator/src/adapters/filesystem-blobs.ts";
import { S3Blobs } from "../../coordinator/src/adapters/s3-blobs.ts";
import { openAccess } from "../../coordinator/src/application/access.ts";
import type { Clock } from "../../coordinator/src/clock.ts";
import type { DoorContext } from "../../coordinator/src/doors/door-context.ts";
import { addGuards } from "../../coordinator/src/doors/guard.ts";
import { sendError } from "../../coordinator/src/doors/problem.ts";
import { addBlobs } from "../../coordinator/src/doors/v1-blobs.ts";
import type { BlobStore } from "../../coordinator/src/ports/blob-store.ts";
import { systemClock } from "../../worker/src/clock.ts";
import { startTestS3, type TestS3 } from "./s3.ts";

export const keepMs = 60_000;
export const noToken = async (): Promise<null> => null;
export const maxBodyBytes = 100_000;
/** What the places' clocks say; tests let it pass. */
export const time = { nowMs: Date.now() };
export const clock: typeof systemClock = { ...systemClock, nowMs: () => time.nowMs };
export const log = { info() {}, warn() {}, error() {} };

export interface Place {
  /** Another one on the same bytes, by another clock. */
  open(clock: Clock): BlobStore;
  /** Where copies of the bytes lie. */
  files(sha256: string): Promise<string[]>;
  /** Files that are not finished. */
  unfinished: string;
  owner: BlobStore;
  door: FastifyInstance;
  url: string;
}

async function placed(parts: Pick<Place, "open" | "files" | "unfinished">): Promise<Place> {
  const [own, door] = [parts.open(clock), Fastify()];
  door.removeAllContentTypeParsers();
  door.addContentTypeParser("*", (_request, _payload, done) => done(null, undefined));
  door.setErrorHandler((error, request, reply) => sendError(error, request, reply, log));
  addGuards(door, openAccess);
  addBlobs(door, { config: { maxBodyBytes } } as DoorContext, own);
  return { ...parts, owner: own, door, url: await door.listen({ host: "127.0.0.1", port: 0 }) };
}

async function filesIn(folder: string, start: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.startsWith(start)).map((name) => path.join(folder, name));
}

export interface FolderPlace extends Place {
  root: string;
  close(): Promise<void>;
}

export async function openFolderPlace(): Promise<FolderPlace> {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-blobs-"));
  const place = await placed({
    open: (clock) => new FilesystemBlobs({ root, clock }),
    files: (sha256) => filesIn(path.join(root, blobFolder(sha256)), sha256),
    unfinished: path.join(root, "unfinished"),
  });
  const close = async (): Promise<void> => {
    await place.door.close();
    await rm(root, { recursive: true, force: true });
  };
  return { ...place, root, close };
}

export interface BucketPlace {
  /** Why there is none, or false. */
  skip: string | false;
  place: Place | undefined;
  s3: TestS3;
  /** Where coordinators keep what is on its way. */
  spool: string;
  /** The same bucket, or one behind a gate. */
  within(s3: TestS3): Pick<Place, "open" | "files" | "unfinished">;
  close(): Promise<void>;
}

export async function openBucketPlace(): Promise<BucketPlace> {
  const found = await startTestS3();
  const spool = await mkdtemp(path.join(tmpdir(), "switchyard-spool-"));
  const within = ({ bucket, endpoint, env, folder }: TestS3): Pick<Place, "open" | "files" | "unfinished"> => {
    Object.assign(process.env, env);
    const place = { bucket, prefix: "some/where", endpoint, region: "us-east-1", pathStyle: true };
    return {
      open: (clock) => new S3Blobs({ place, folder: spool, clock, log }),
      files: (sha256) => filesIn(path.join(folder, "some/where/blobs", sha256), "data."),
      unfinished: spool,
    };
  };
  const place = "missing" in found ? undefined : await placed(within(found));
  const close = async (): Promise<void> => {
    await place?.door.close();
    if (!("missing" in found)) await found.stop();
    await rm(spool, { recursive: true, force: true });
  };
  return { skip: "missing" in found ? found.missing : false, place, s3: found as TestS3, spool, within, close };
}

export function content(sizeBytes = 300_000): Uint8Array {
  return new Uint8Array(randomBytes(sizeBytes));
}

export async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 100_000) yield bytes.subarray(at, at + 100_000);
}

/** A failing comparison of such long arrays would take minutes to be written out. */
export const same = (left: Uint8Array | undefined, right: Uint8Array): boolean => left !== undefined && Buffer.compare(left, right) === 0;
export const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
export const codeOf =
  (code: string) =>
  (error: unknown): boolean =>
    error instanceof SwitchyardError && error.code === code;
