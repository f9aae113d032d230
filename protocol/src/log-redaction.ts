/** What no line of a log may hold, whoever writes it: fields of these names are struck out, and so are credentials within texts. */

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** Names of fields, at the top of a line or one step below. */
export const secretFields: readonly string[] = [
  "authorization",
  "api_key",
  "apiKey",
  "idempotency_key",
  "password",
  "secret",
  "token",
  "inputs",
  "outputs",
  "data",
];

export const struckOut = "[redacted]";

const urlCredentials = /(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi;
const bearerTokens = /\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+/gi;

/** Without the user and password of addresses and without bearer tokens. */
export function withoutCredentials(text: string): string {
  return text.replace(urlCredentials, `$1${struckOut}@`).replace(bearerTokens, `$1 ${struckOut}`);
}

/** The fields of a line, each text without credentials. */
export function cleanFields(fields: Record<string, unknown>): Record<string, unknown> {
  const clean: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) clean[name] = typeof value === "string" ? withoutCredentials(value) : value;
  return clean;
}
