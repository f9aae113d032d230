/**
 * Reads JSON that a stranger wrote: depth is limited before parsing, by one pass over the bytes, and whole numbers beyond 2^53 can be
 * had exactly. Keys such as `__proto__` are data: JSON.parse makes own properties of them, and nobody here copies keys by assignment.
 */

import { refuse, told } from "./request-fault.ts";

const decoder = new TextDecoder("utf-8", { fatal: true });

export interface JsonDocument {
  value: unknown;
  /** The same document with whole numbers that a double may round as strings of their digits. Parses again, at most once. */
  exact(): unknown;
}

/** Throws `invalid_request` when the text is deeper than `maxDepth`, not UTF-8 or not JSON. */
export function parseJson(bytes: Uint8Array, maxDepth: number): JsonDocument {
  checkNesting(bytes, maxDepth);
  const text = decodeText(bytes);
  let exact: { value: unknown } | undefined;
  return {
    value: parseText(text),
    exact: () => {
      exact ??= { value: JSON.parse(quoteLongIntegers(text)) };
      return exact.value;
    },
  };
}

function decodeText(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw refuse({
      at: "",
      expected: "JSON in UTF-8",
      got: told(`${bytes.length} bytes that are not UTF-8`),
      detail: "The JSON is not valid UTF-8",
    });
  }
}

/** What Python and JavaScript write for numbers that JSON does not have. */
const saysNoNumber = /[[,:\s]-?(NaN|nan|Infinity|inf)\s*[\],}]/;
const noNumberAdvice = "NaN and infinities have no JSON form: send them as binary tensor data (binary_data_size)";

function parseText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : "it cannot be parsed";
    throw refuse({
      at: "",
      expected: "JSON",
      got: text === "" ? told("an empty body") : text,
      detail: `The body is not valid JSON: ${why}${saysNoNumber.test(text) ? `. ${noNumberAdvice}` : ""}`,
    });
  }
}

const quote = 0x22;
const backslash = 0x5c;

function checkNesting(bytes: Uint8Array, maxDepth: number): void {
  if (hasFewBrackets(bytes, maxDepth)) return;
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (byte === quote) {
      at++;
      while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1;
    } else if (byte === 0x5b || byte === 0x7b) {
      depth++;
      if (depth > maxDepth) {
        const detail = `JSON nesting depth exceeds maximum allowed limit (${maxDepth})`;
        throw refuse({ at: "", expected: `at most ${maxDepth} levels`, got: told("more"), detail });
      }
    } else if (byte === 0x5d || byte === 0x7d) depth--;
  }
}

/** The usual case, decided by native search: what opens fewer brackets than the limit, in strings or not, cannot be too deep. */
function hasFewBrackets(bytes: Uint8Array, maxDepth: number): boolean {
  let found = 0;
  for (const bracket of [0x5b, 0x7b]) {
    for (let at = bytes.indexOf(bracket); at >= 0; at = bytes.indexOf(bracket, at + 1)) if (++found > maxDepth) return false;
  }
  return true;
}

/** What may follow the first character of a JSON number. */
function continuesNumber(code: number): boolean {
  return isDigit(code) || code === 0x2e || code === 0x65 || code === 0x45 || code === 0x2b || code === 0x2d;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

/**
 * Puts whole numbers of 16 digits or more in quotes. The text has been parsed before, so it is valid JSON and every quote is closed.
 * A reviver with source text access would do the same with a call per value: 15 times slower on a million numbers.
 */
function quoteLongIntegers(text: string): string {
  let quoted = "";
  let copied = 0;
  for (let at = 0; at < text.length; ) {
    const code = text.charCodeAt(at);
    if (code === quote) {
      at++;
      while (text.charCodeAt(at) !== quote) at += text.charCodeAt(at) === backslash ? 2 : 1;
      at++;
    } else if (isDigit(code) || code === 0x2d) {
      const start = at++;
      let isWhole = true;
      for (let next = text.charCodeAt(at); continuesNumber(next); next = text.charCodeAt(++at)) isWhole &&= isDigit(next);
      if (isWhole && at - start >= 16) {
        quoted += `${text.slice(copied, start)}"${text.slice(start, at)}"`;
        copied = at;
      }
    } else at++;
  }
  return quoted + text.slice(copied);
}
