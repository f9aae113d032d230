/** Cuts values out of JSON text as they were written: a parse would round whole numbers beyond 2^53. Pure. */

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;

/**
 * The text of one member of the object that `text` is; undefined when it has none of that name. The text must be valid JSON, and the name one
 * that is written without escapes.
 */
export function memberText(text: string, name: string): string | undefined {
  let at = text.indexOf("{") + 1;
  while (at > 0 && at < text.length) {
    const keyStart = text.indexOf('"', at);
    if (keyStart < 0) return undefined;
    const keyEnd = stringEnd(text, keyStart);
    const valueStart = text.indexOf(":", keyEnd) + 1;
    const valueEnd = endOfValue(text, valueStart);
    if (text.slice(keyStart + 1, keyEnd - 1) === name) return text.slice(valueStart, valueEnd).trim();
    if (text.charCodeAt(valueEnd) !== comma) return undefined;
    at = valueEnd + 1;
  }
  return undefined;
}

/** Where the string that begins at `start` is over. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === backslash) slashes++;
    if (slashes % 2 === 0) return end + 1;
  }
  return text.length;
}

/** Where the comma or the bracket stands that ends a value. */
function endOfValue(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) at = stringEnd(text, at) - 1;
    else if (code === 0x7b || code === 0x5b) depth++;
    else if (code === 0x7d || code === 0x5d) {
      if (depth === 0) return at;
      depth--;
    } else if (code === comma && depth === 0) return at;
  }
  return text.length;
}
