/** The ways of scheduling that are compared. Each adds one thing to the one before it, so that every step can be judged by itself. */

export interface Policy {
  name: PolicyName;
  /** Order of the queue: by arrival, or by latest start. */
  order: "arrival" | "latest_start";
  /** Whether what cannot end in time is dropped, and batches grow only as far as deadlines allow. */
  drop: boolean;
  /** Whether jobs are refused that cannot be done in time. */
  admission: boolean;
  /** Whether classes and tenants share; else all jobs are of one flow. */
  fair: boolean;
}

export const policyNames = ["fifo", "fifo-drop", "edf", "edf-drop", "admission", "fair"] as const;
export type PolicyName = (typeof policyNames)[number];

export const policies: Record<PolicyName, Policy> = {
  fifo: { name: "fifo", order: "arrival", drop: false, admission: false, fair: false },
  "fifo-drop": { name: "fifo-drop", order: "arrival", drop: true, admission: false, fair: false },
  edf: { name: "edf", order: "latest_start", drop: false, admission: false, fair: false },
  "edf-drop": { name: "edf-drop", order: "latest_start", drop: true, admission: false, fair: false },
  admission: { name: "admission", order: "latest_start", drop: true, admission: true, fair: false },
  fair: { name: "fair", order: "latest_start", drop: true, admission: true, fair: true },
};
