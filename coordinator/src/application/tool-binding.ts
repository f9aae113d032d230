/**
 * Arguments of a tool call that are taken from a document, such as a job with its outputs: by JSON pointers on both sides, never by text put
 * into text. Pure. A value arrives as the JSON value that it is, so that nothing in it can become SQL, a path or a flag.
 */

import { type FieldError, SwitchyardError } from "@switchyard/protocol";

/** Where a bound value comes from. */
export interface Source {
  /** The document's name, such as a job's id. */
  document: string;
  /** JSON pointer (RFC 6901) into it; "" for the whole. */
  pointer: string;
}

/** By the JSON pointer into the arguments at which the value is put. */
export type Bindings = ReadonlyMap<string, Source>;

export const mostBindings = 64;
/** Of all bound values of one call together, as JSON. The same value bound twice counts twice. */
export const mostBoundBytes = 4 << 20;
/** Deeper places than any schema of a tool asks for. */
const mostSteps = 16;

/**
 * The arguments with every bound value in its place; neither they nor the documents are changed. Throws `invalid_request` that names each binding
 * that leads nowhere, and `payload_too_large`. `at` is the pointer of the bindings in the request.
 */
export function bindArguments(
  args: Readonly<Record<string, unknown>>,
  bindings: Bindings,
  documents: ReadonlyMap<string, unknown>,
  at = "/bindings",
): Record<string, unknown> {
  if (bindings.size === 0) return { ...args };
  const bound = structuredClone(args) as Record<string, unknown>;
  const fields: FieldError[] = [];
  let leftBytes = mostBoundBytes;
  for (const [target, { document, pointer }] of bindings) {
    const field = `${at}/${escaped(target)}`;
    const from = stepsOf(pointer);
    const to = stepsOf(target);
    if (to === undefined || to.length === 0) {
      fields.push({ pointer: field, expected: "a JSON pointer to one argument, such as /job", got: JSON.stringify(target.slice(0, 64)) });
      continue;
    }
    if (from === undefined) {
      fields.push({
        pointer: `${field}/pointer`,
        expected: 'a JSON pointer, such as /outputs/label/0, or ""',
        got: JSON.stringify(pointer.slice(0, 64)),
      });
      continue;
    }
    const found = valueAt(documents.get(document), from);
    if (found === undefined) {
      fields.push({ pointer: `${field}/pointer`, expected: `a place in ${document}`, got: JSON.stringify(pointer.slice(0, 64)) });
      continue;
    }
    // before anything is copied
    leftBytes -= sizeOf(found, leftBytes);
    if (leftBytes < 0) {
      throw new SwitchyardError(
        "payload_too_large",
        `What is bound is too large: at most ${mostBoundBytes} bytes together, ${field} goes beyond`,
      );
    }
    const refused = put(bound, to, structuredClone(found));
    if (refused !== undefined) fields.push({ pointer: field, expected: refused, got: JSON.stringify(target.slice(0, 64)) });
  }
  if (fields.length === 0) return bound;
  const [first] = fields as [FieldError];
  throw new SwitchyardError("invalid_request", `${first.pointer} must be ${first.expected}, got ${first.got}`, { fields });
}

/** Bytes of a JSON value as text, about: one of a character, whatever it needs. Stops counting beyond `most`. */
export function sizeOf(value: unknown, most = Number.POSITIVE_INFINITY): number {
  if (typeof value === "string") return value.length + 3;
  if (typeof value !== "object" || value === null) return String(value).length + 1;
  let sizeBytes = 3;
  if (Array.isArray(value)) {
    for (const item of value) {
      sizeBytes += sizeOf(item, most - sizeBytes);
      if (sizeBytes > most) break;
    }
    return sizeBytes;
  }
  for (const [name, member] of Object.entries(value)) {
    sizeBytes += name.length + 3 + sizeOf(member, most - sizeBytes);
    if (sizeBytes > most) break;
  }
  return sizeBytes;
}

/** The parts of a JSON pointer, or undefined when it is none. */
export function stepsOf(pointer: string): string[] | undefined {
  if (pointer === "") return [];
  if (!pointer.startsWith("/") || /~(?![01])/.test(pointer)) return undefined;
  const steps = pointer.slice(1).split("/");
  return steps.length > mostSteps ? undefined : steps.map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
}

export function escaped(step: string): string {
  return step.replaceAll("~", "~0").replaceAll("/", "~1");
}

export function valueAt(document: unknown, steps: readonly string[]): unknown {
  let value = document;
  for (const step of steps) {
    if (typeof value !== "object" || value === null) return undefined;
    if (Array.isArray(value) && !/^(0|[1-9]\d{0,8})$/.test(step)) return undefined;
    if (!Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string, unknown>)[step];
  }
  return value;
}

/** Makes objects on the way where nothing is. Answers what was expected where the way is blocked. */
function put(into: Record<string, unknown>, steps: readonly string[], value: unknown): string | undefined {
  let place: Record<string, unknown> = into;
  for (const [index, step] of steps.entries()) {
    if (step === "__proto__") return "a place that is no prototype";
    if (Array.isArray(place) && !(/^(0|[1-9]\d{0,8})$/.test(step) && Number(step) < place.length)) {
      return "a place in an array that has it already";
    }
    if (index === steps.length - 1) {
      place[step] = value;
      return undefined;
    }
    if (!Object.hasOwn(place, step)) place[step] = {};
    const next = place[step];
    if (typeof next !== "object" || next === null) return "a place inside an object or array";
    place = next as Record<string, unknown>;
  }
  return undefined;
}
