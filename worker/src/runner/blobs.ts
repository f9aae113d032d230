/** What a runner needs of the place where values live that are too large for Redis. Implementations wait, but never for ever. */

import type { BlobReference } from "@switchyard/protocol";

export interface Blobs {
  /** The bytes, checked, at an 8-byte aligned address; undefined when they are gone. Throws SwitchyardError when that cannot be told now. */
  get(reference: BlobReference): Promise<Uint8Array | undefined>;
  /** Throws SwitchyardError `store_full` or `store_unavailable`. */
  put(bytes: Uint8Array, how: { keepMs: number }): Promise<BlobReference>;
}
