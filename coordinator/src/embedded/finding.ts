/** What `switchyard doctor` says of one thing. */

export interface Finding {
  subject: string;
  state: "ok" | "warning" | "missing";
  found: string;
  /** How to mend it; absent when nothing needs mending. */
  fix?: string;
}

export const ok = (subject: string, found: string): Finding => ({ subject, state: "ok", found });
export const warning = (subject: string, found: string, fix: string): Finding => ({ subject, state: "warning", found, fix });
export const missing = (subject: string, found: string, fix: string): Finding => ({ subject, state: "missing", found, fix });
