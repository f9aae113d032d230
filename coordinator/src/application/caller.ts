/** Who asks. Without a key file everything is one tenant, on loopback only. */

export interface Caller {
  tenant: string;
  scopes: ReadonlySet<"submit" | "read" | "operate" | "admin">;
}

export const localCaller: Caller = { tenant: "default", scopes: new Set(["submit", "read", "operate", "admin"]) };
