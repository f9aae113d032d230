/** Puts what a schema finds wrong with a document that people wrote into words: where it is, what was expected, what came. */

import { z } from "zod";
import { quoted } from "../request-fault.ts";

export interface SchemaFault {
  path: PropertyKey[];
  /** Without the place: "expected a number above 0, got -1". */
  text: string;
}

/** `inWords` says what came; a schema with secrets gives its own. */
export function schemaFaults(
  schema: z.core.$ZodType,
  issues: readonly z.core.$ZodIssue[],
  document: unknown,
  inWords: (value: unknown, path: readonly PropertyKey[]) => string = valueInWords,
): SchemaFault[] {
  return issues.flatMap((issue): SchemaFault[] => {
    if (issue.code === "unrecognized_keys") {
      const known = keysAt(schema, issue.path);
      return issue.keys.map((key) => ({ path: [...issue.path, key], text: `unknown key; expected ${oneOf(known)}` }));
    }
    return [{ path: issue.path, text: `expected ${expectation(issue)}, got ${inWords(valueAt(document, issue.path), issue.path)}` }];
  });
}

function expectation(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "invalid_type":
      return typeWords[issue.expected] ?? issue.expected;
    case "invalid_value":
      return oneOf(issue.values.map(String));
    case "too_small":
      return issue.origin in countedWords
        ? `at least ${issue.minimum} ${countedWords[issue.origin]}`
        : `a number ${issue.inclusive ? "of at least" : "above"} ${issue.minimum}`;
    case "too_big":
      return issue.origin in countedWords
        ? `at most ${issue.maximum} ${countedWords[issue.origin]}`
        : `a number ${issue.inclusive ? "of at most" : "below"} ${issue.maximum}`;
    default:
      return issue.message;
  }
}

const typeWords: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  boolean: "true or false",
  array: "a list",
  tuple: "a list",
  object: "a mapping",
  record: "a mapping",
};

/** What a size limit counts, where it is not the number itself. */
const countedWords: Readonly<Record<string, string>> = { array: "entries", string: "characters" };

function oneOf(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `one of ${words.join(", ")}`;
}

/** `image.size[0]`; "the document" for its root. */
export function pathText(path: readonly PropertyKey[]): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else text += text === "" ? String(step) : `.${String(step)}`;
  }
  return text === "" ? "the document" : text;
}

function valueAt(document: unknown, path: readonly PropertyKey[]): unknown {
  let value = document;
  for (const step of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  return value;
}

export function valueInWords(value: unknown): string {
  const text = quoted(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Keys that the schema knows where `path` leads. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  let place: z.core.$ZodType = schema;
  for (const step of path) {
    place = unwrapped(place);
    if (place instanceof z.ZodObject) place = place.shape[String(step)] ?? place;
    else if (place instanceof z.ZodRecord) place = place.valueType;
    else if (place instanceof z.ZodArray) place = place.element;
  }
  place = unwrapped(place);
  return place instanceof z.ZodObject ? Object.keys(place.shape) : [];
}

function unwrapped(schema: z.core.$ZodType): z.core.$ZodType {
  return schema instanceof z.ZodOptional ? schema.unwrap() : schema;
}
