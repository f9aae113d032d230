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
  /** Calls that were refused for want of consent since. Those of one moment may count as one. */
  asked?: { by: string; pin: string; atMs: number; times: number };
}

export type Decided = Pick<StoredConsent, "consent">;

export interface ToolConsents {
  get(server: string, tool: string): Promise<StoredConsent | undefined>;
  /** By tool. */
  ofServer(server: string, tools: readonly string[]): Promise<Map<string, StoredConsent>>;
  /**
   * Makes of a decision what `change` makes of it as it stands now; undefined removes it. What was asked goes with it. Answers what stands then.
   * Throws `changed_meanwhile` when somebody else decided between, and what `change` throws.
   */
  change(
    of: { server: string; tool: string },
    change: (before: Decided | undefined, nowMs: number) => Decided | undefined,
  ): Promise<StoredConsent | undefined>;
  /** Notes that a call was refused for want of consent. Stands in the way of no decision. */
  ask(of: { server: string; tool: string }, by: { by: string; pin: string }): Promise<void>;
}

/** A decision with what was asked after it. Undefined where there is neither. */
export function withAsked({ consent }: StoredConsent, asked: StoredConsent["asked"]): StoredConsent | undefined {
  const isOpen = asked !== undefined && (consent === undefined || asked.atMs >= consent.atMs);
  return consent || isOpen ? { ...(consent && { consent }), ...(isOpen && { asked }) } : undefined;
}

/** What is asked after `before`. */
export function askedAgain(
  before: StoredConsent["asked"],
  { by, pin }: { by: string; pin: string },
  atMs: number,
): NonNullable<StoredConsent["asked"]> {
  return { by, pin, atMs, times: before?.pin === pin ? before.times + 1 : 1 };
}
