/** How hosts prove to a coordinator that they belong to the cluster: they can read the store, and show what they read there. */

export interface HostCredential {
  /** A host that shows nothing found nothing: there must be a credential to read when it tries again. Throws `store_unavailable` when that cannot be told now. */
  isHost(token: string): Promise<boolean>;
}
