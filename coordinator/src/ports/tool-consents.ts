/** What was decided about tools of other servers, shared by all coordinators. Failures: `store_unavailable`. */

export interface StoredConsent {
  consent?: {
    decision: "allow" | "deny";
    /** SHA-256 of the definition that was decided on. */
    pin: string;
    /** SHA-256 of where the server comes from: another program under the same name has nobody's consent. */
    origin: string;
    /** A key's id, `local`, or `(configuration)` for a first use. */
    by: string;
    /** By the store's clock. */
    atMs: number;
  };
  /** Calls that were refused for want of consent since. */
  asked?: { by: string; pin: string; atMs: number; times: number };
}

export interface ToolConsents {
  get(server: string, tool: string): Promise<StoredConsent | undefined>;
  /** By tool. */
  ofServer(server: string, tools: readonly string[]): Promise<Map<string, StoredConsent>>;
  /**
   * Makes of an entry what `change` makes of it as it stands now; undefined removes it. Answers what stands then. Throws `changed_meanwhile` when
   * somebody else changed it between, and what `change` throws.
   */
  change(
    of: { server: string; tool: string },
    change: (before: StoredConsent | undefined, nowMs: number) => StoredConsent | undefined,
  ): Promise<StoredConsent | undefined>;
}
