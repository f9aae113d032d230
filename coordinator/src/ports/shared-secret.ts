/** A secret that all coordinators of a cluster share and nobody else knows, so that what one has signed another believes. */

export interface SharedSecret {
  /** At least 32 random bytes. Throws `store_unavailable` while it is not known here. */
  read(): Promise<Uint8Array>;
}
