/** From the credential that a request carries to the caller that it is made by. Decides nothing about what a caller may do. */

import { SwitchyardError, type TenantView } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";
import type { HostCredential } from "../ports/host-credential.ts";
import type { ApiKey, KeyRing } from "../ports/key-ring.ts";
import { type Caller, localCaller } from "./caller.ts";
import type { TenantWaiting } from "./job-service.ts";

export interface Tenant {
  tenant: string;
  weight: number;
  /** Ids. */
  keys: string[];
}

export interface Access {
  /** Of the text of an Authorization header. Throws `unauthenticated`. Asked on every request. */
  callerOf(authorization: string | undefined): Caller;
  /** For what only hosts may ask. Throws `unauthenticated`, `forbidden` or `store_unavailable`. */
  requireHost(authorization: string | undefined): Promise<void>;
  /** The tenants that there are, by name. */
  tenants(): Tenant[];
}

/** Without a key file whoever reaches the address may do everything. */
export const openAccess: Access = {
  callerOf: () => localCaller,
  requireHost: () => Promise.resolve(),
  tenants: () => [{ tenant: localCaller.tenant, weight: localCaller.weight, keys: [] }],
};

/** Access by the keys of a ring, and for hosts by their own credential. */
export class KeyedAccess implements Access {
  readonly #keys: KeyRing;
  readonly #hosts: HostCredential;
  readonly #clock: Clock;

  constructor(parts: { keys: KeyRing; hosts: HostCredential; clock: Clock }) {
    this.#keys = parts.keys;
    this.#hosts = parts.hosts;
    this.#clock = parts.clock;
  }

  callerOf(authorization: string | undefined): Caller {
    const key = this.#keys.find(secretIn(authorization));
    if (key === undefined) throw new SwitchyardError("unauthenticated", "There is no such API key, or not any more");
    if (key.expiresMs !== undefined && key.expiresMs <= this.#clock.nowMs()) {
      throw new SwitchyardError("unauthenticated", `The API key ${key.id} expired at ${new Date(key.expiresMs).toISOString()}`);
    }
    return asCaller(key);
  }

  async requireHost(authorization: string | undefined): Promise<void> {
    const isHost = await this.#hosts.isHost(authorization === undefined ? "" : secretIn(authorization));
    if (isHost) return;
    this.callerOf(authorization); // no key, or one that is none, is told so
    throw new SwitchyardError("forbidden", "This is for hosts of the cluster, whose credential is in the store; API keys do not open it");
  }

  tenants(): Tenant[] {
    const views = new Map<string, Tenant>();
    for (const { id, tenant, weight } of this.#keys.all()) {
      const view = views.get(tenant) ?? { tenant, weight, keys: [] };
      view.keys.push(id);
      views.set(tenant, view);
    }
    return [...views.values()].sort((one, other) => (one.tenant < other.tenant ? -1 : 1));
  }
}

/** Tenants with what waits of theirs. */
export function tenantViews(tenants: readonly Tenant[], waiting: readonly TenantWaiting[]): TenantView[] {
  const ofTenant = Map.groupBy(waiting, ({ tenant }) => tenant);
  return tenants.map((tenant) => ({
    ...tenant,
    waiting: (ofTenant.get(tenant.tenant) ?? []).map(({ model, version, jobs }) => ({ model, version, jobs })),
  }));
}

function asCaller({ id, tenant, weight, scopes, models }: ApiKey): Caller {
  return models === undefined ? { tenant, weight, scopes, keyId: id } : { tenant, weight, scopes, keyId: id, models };
}

function secretIn(authorization: string | undefined): string {
  const expected = "the header `Authorization: Bearer <key>`";
  if (authorization === undefined) throw new SwitchyardError("unauthenticated", `An API key is required: send ${expected}`);
  const secret = /^Bearer +([^\s]+) *$/i.exec(authorization)?.[1];
  if (secret === undefined) throw new SwitchyardError("unauthenticated", `The Authorization header is not understood: send ${expected}`);
  return secret;
}
