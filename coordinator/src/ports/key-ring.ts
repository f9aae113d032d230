/** The API keys that are valid now, as the operator's file says. Secrets are not in it: a key is found by what is presented. */

import type { Scope } from "@switchyard/protocol/api-keys";

export interface ApiKey {
  id: string;
  tenant: string;
  /** The tenant's share against other tenants. */
  weight: number;
  scopes: ReadonlySet<Scope>;
  /** Names of the models that it may use; absent: all. */
  models?: ReadonlySet<string>;
  /** By this machine's clock; absent: never. */
  expiresMs?: number;
}

export interface KeyRing {
  /** The key with this secret, expired or not. Asked on every request. */
  find(secret: string): ApiKey | undefined;
  /** In the order of the file. */
  all(): readonly ApiKey[];
}
