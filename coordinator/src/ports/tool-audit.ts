/** The audit trail of tool calls and consents: bounded, shared by all coordinators, never with arguments or answers. */

export interface AuditedAct {
  event: "call" | "consent";
  server: string;
  tool: string;
  tenant: string;
  by: string;
  /** What asked, such as `http`. */
  via: string;
  outcome: string;
  argumentsSha256?: string;
  pin?: string;
  ms?: number;
}

export interface AuditEntry extends AuditedAct {
  /** In the order of time. */
  id: string;
  atMs: number;
}

export interface ToolAudit {
  append(act: AuditedAct): Promise<void>;
  /** Newest first; `before` is the id of the last entry that was seen. */
  read(how: { limit: number; before?: string }): Promise<AuditEntry[]>;
}
