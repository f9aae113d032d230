/** How hosts prove to a coordinator that they belong to the cluster: they can read the store, and show what they read there. */

export interface HostCredential {
  /** Throws `store_unavailable` when that cannot be told now. */
  isHost(token: string): Promise<boolean>;
}
