/** What API keys may do. */

/** Each stands alone: `admin` does not include the others. */
export const scopes = ["submit", "read", "operate", "admin"] as const;
export type Scope = (typeof scopes)[number];
