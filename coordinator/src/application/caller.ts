/** Who asks, and what of: the tenant, what its key may do, and which models it may use. */

import { SwitchyardError } from "@switchyard/protocol";
import { type Scope, scopes } from "@switchyard/protocol/api-keys";

export interface Caller {
  tenant: string;
  /** The tenant's share against other tenants. */
  weight: number;
  scopes: ReadonlySet<Scope>;
  /** Absent without a key file. */
  keyId?: string;
  /** Names of the models that it may use; absent: all. */
  models?: ReadonlySet<string>;
}

/** Without a key file everything is one tenant, on loopback only. */
export const localCaller: Caller = { tenant: "default", weight: 1, scopes: new Set(scopes) };

/** In the place of a tenant's name. */
export const allTenants = "*";

/** Whose jobs a list shows: the caller's own, unless an operator asks for others'; undefined: everybody's. Throws `forbidden`. */
export function listedTenant(caller: Caller, asked: string | undefined): string | undefined {
  if (asked === undefined || asked === caller.tenant) return caller.tenant;
  requireScope(caller, ["operate"]);
  return asked === allTenants ? undefined : asked;
}

export function mayUse(caller: Caller, model: string): boolean {
  return caller.models === undefined || caller.models.has(model);
}

/** Whether whoever asks now may still do all that it might `then`: keys are changed while calls go on. */
export function mayStill(then: Caller, now: Caller): boolean {
  if (now.tenant !== then.tenant || ![...then.scopes].every((scope) => now.scopes.has(scope))) return false;
  const { models } = now;
  return models === undefined || (then.models !== undefined && [...then.models].every((model) => models.has(model)));
}

/** Throws `forbidden`, whether or not there is such a model. */
export function requireModel(caller: Caller, model: string): void {
  if (mayUse(caller, model)) return;
  const expected = `one of ${[...(caller.models ?? [])].join(", ")}`;
  throw new SwitchyardError("forbidden", `The API key ${caller.keyId} may not use the model '${model.slice(0, 128)}'`, {
    fields: [{ pointer: "model", expected, got: model.slice(0, 128) }],
  });
}

/** Throws `forbidden` unless the caller has one of these scopes. */
export function requireScope(caller: Caller, anyOf: readonly Scope[]): void {
  if (anyOf.some((scope) => caller.scopes.has(scope))) return;
  const named = anyOf.map((scope) => `'${scope}'`).join(" or ");
  throw new SwitchyardError("forbidden", `The API key ${caller.keyId} lacks the scope ${named}`, { extra: { missing: anyOf } });
}
