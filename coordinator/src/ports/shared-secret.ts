/** What all coordinators of a cluster sign with, so that each accepts what another has signed. */

export interface SharedSecret {
  /** 32 bytes, the same at every coordinator and another for each purpose. Throws `store_unavailable` while it was never read. */
  key(purpose: string): Promise<Uint8Array>;
}
