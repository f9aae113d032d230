/**
 * Arguments of tools that travel as HTTP headers too, so that whoever stands before the server may route by them: a property of a tool's input
 * schema names its header by `x-mcp-header`. Clients on standard input and output know no headers, so the bridge derives them. Pure.
 */

interface DeclaredHeader {
  /** From the arguments' root. */
  path: readonly string[];
  header: string;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** What a header's value may be without being encoded: visible ASCII, blanks within. */
const plain = /^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/;
const encoded = /^=\?base64\?.*\?=$/;

/** What an input schema declares, reached through `properties` alone. What is declared wrongly is left out: the server says so itself. */
export function declaredHeaders(schema: unknown, path: readonly string[] = []): DeclaredHeader[] {
  if (!isObject(schema)) return [];
  const name = schema["x-mcp-header"];
  const own = path.length > 0 && typeof name === "string" && token.test(name) ? [{ path, header: name }] : [];
  const { properties } = schema;
  if (!isObject(properties)) return own;
  return [...own, ...Object.entries(properties).flatMap(([key, child]) => declaredHeaders(child, [...path, key]))];
}

/** `Mcp-Param-*` of one call. Arguments that are absent, null or no plain value have none. */
export function paramHeaders(declared: readonly DeclaredHeader[], args: unknown): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const { path, header } of declared) {
    const text = textOf(path.reduce<unknown>((value, key) => (isObject(value) ? value[key] : undefined), args));
    if (text !== undefined) headers[`Mcp-Param-${header}`] = headerValue(text);
  }
  return headers;
}

function textOf(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return String(value);
  if (typeof value !== "number" || !Number.isFinite(value)) return undefined;
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? undefined : String(value);
}

function headerValue(text: string): string {
  return plain.test(text) && !encoded.test(text) ? text : `=?base64?${Buffer.from(text, "utf8").toString("base64")}?=`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
