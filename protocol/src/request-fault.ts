/** How the codec refuses a request: one sentence for people, one field for programs. Values of the client are shown shortened. */

import { type ErrorCode, SwitchyardError } from "./errors.ts";

const shownChars = 64;

interface Fault {
  /** JSON pointer into the body. */
  at: string;
  expected: string;
  /** Described if it is not already a sentence; see `describe`. */
  got: unknown;
  detail: string;
}

export function refuse(
  fault: Fault,
  code: Extract<ErrorCode, "invalid_request" | "signature_mismatch" | "unsupported"> = "invalid_request",
): SwitchyardError {
  const got = fault.got instanceof Told ? fault.got.text : describe(fault.got);
  return new SwitchyardError(code, fault.detail, { fields: [{ pointer: fault.at, expected: fault.expected, got }] });
}

/** Words of ours about what came, to be shown as they are. */
class Told {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export function told(text: string): Told {
  return new Told(text);
}

/** A name that a client chose, short enough for a message. */
export function shown(text: string): string {
  return text.length <= shownChars ? text : `${text.slice(0, shownChars)}…`;
}

export function describe(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(shown(value));
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  return shown(String(value));
}

const quotedChars = 80;

/**
 * The beginning of a value as JSON; no part of it is looked at that would not be shown, so that a large one costs no more, nor one that stands within
 * itself, as YAML can write it.
 */
export function quoted(value: unknown, mostChars: number = quotedChars): string {
  if (value === undefined) return "nothing";
  if (typeof value === "string") return JSON.stringify(value.slice(0, mostChars));
  if (typeof value !== "object" || value === null) return String(value);
  const isList = Array.isArray(value);
  let text = isList ? "[" : "{";
  for (const key of isList ? value.keys() : Object.keys(value)) {
    if (text.length > mostChars) return text;
    if (text.length > 1) text += ",";
    if (!isList) text += `${quoted(key, Math.max(0, mostChars - text.length))}:`;
    text += quoted((value as Record<PropertyKey, unknown>)[key], Math.max(0, mostChars - text.length));
  }
  return text + (isList ? "]" : "}");
}

/** One segment of a JSON pointer (RFC 6901). */
export function pointerSegment(key: string): string {
  return shown(key).replaceAll("~", "~0").replaceAll("/", "~1");
}
