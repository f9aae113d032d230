/** Where large values lie, as SWITCHYARD_BLOBS says it to coordinators and hosts alike. */

export type BlobPlaceName =
  | { path: string }
  | {
      bucket: string;
      /** Empty, or without slashes at its ends. */
      prefix: string;
    };

/** What `readBlobPlace` expects, in words. */
export const blobPlaceForms = "a path, or s3://bucket or s3://bucket/prefix without user or password";

/** Undefined: neither a path nor a bucket. What begins as a bucket's address, in whatever case, is never a path. */
export function readBlobPlace(text: string): BlobPlaceName | undefined {
  if (!/^s3:/i.test(text)) return text === "" ? undefined : { path: text };
  const [, bucket, prefix = ""] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([A-Za-z0-9!_.*'()/-]*))?$/.exec(text) ?? [];
  const parts = prefix.replace(/\/$/, "").split("/");
  const isPlain = prefix === "" || parts.every((part) => part !== "" && part !== "." && part !== "..");
  return bucket === undefined || !isPlain ? undefined : { bucket, prefix: prefix === "" ? "" : parts.join("/") };
}
