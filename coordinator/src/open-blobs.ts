/** Makes the blob store that is configured. The SDK for buckets is loaded only where there is one. */

import path from "node:path";
import { FilesystemBlobs } from "./adapters/filesystem-blobs.ts";
import type { BucketFault, BucketPlace } from "./adapters/s3-bucket.ts";
import type { Clock } from "./clock.ts";
import type { BlobPlace } from "./config.ts";
import type { BlobStore } from "./ports/blob-store.ts";
import type { Log } from "./ports/log.ts";

const sweepFolderMs = 60_000;
/** Each sweep lists the whole bucket, and listing is paid for. */
const sweepBucketMs = 600_000;

interface Parts {
  blobs: BlobPlace;
  dataFolder: string;
  /** Its time is the one that all who use the place share. */
  clock: Pick<Clock, "after" | "nowMs">;
  log: Log;
}

/**
 * `sweepMs`: how often it should be swept. Throws an Error that says what to do when the bucket is not as it must be; one that does not answer may
 * come back, and is only told.
 */
export async function openBlobs(parts: Parts): Promise<{ blobs: BlobStore; sweepMs: number }> {
  const { blobs: place, clock } = parts;
  if ("folder" in place) return { blobs: new FilesystemBlobs({ root: place.folder, clock }), sweepMs: sweepFolderMs };
  const { blobs, fault } = await openBucket({ ...parts, blobs: place });
  if (fault && !fault.isAway) throw new Error(`${fault.found}: ${fault.fix}`);
  return { blobs, sweepMs: sweepBucketMs };
}

async function openBucket({ blobs: place, clock, dataFolder, log }: Parts & { blobs: BucketPlace }) {
  const { S3Blobs } = await import("./adapters/s3-blobs.ts");
  const blobs = new S3Blobs({ place, folder: path.join(dataFolder, "unfinished-blobs"), clock, log });
  return { blobs, fault: await blobs.check() };
}

/** Why the bucket cannot be used; undefined when it can, or when a folder is configured. */
export async function bucketFault(parts: Parts): Promise<BucketFault | undefined> {
  if ("folder" in parts.blobs) return undefined;
  const { blobs, fault } = await openBucket({ ...parts, blobs: parts.blobs });
  blobs.close();
  return fault;
}
