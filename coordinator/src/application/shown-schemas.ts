/** Schemas of strangers' tools as they are shown and offered on: what is only for readers is cleaned and cut. Pure. Values are checked by the originals. */

import type { ToolAnnotations } from "../ports/tool-servers.ts";
import { cleanText } from "./tool-names.ts";

const mostChars: Readonly<Record<string, number>> = { title: 200, description: 1_024, $comment: 200 };
/** Members whose members are schemas, whatever they are called. */
const schemasByName = new Set(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"]);
/** Values, in which a description is none. */
const values = new Set(["const", "enum", "default", "examples"]);

export function shownSchema(schema: Record<string, unknown>): Record<string, unknown> {
  return membersOf(schema, (name, member) => {
    const most = Object.hasOwn(mostChars, name) ? mostChars[name] : undefined;
    if (most !== undefined && typeof member === "string") return cleanText(member, most);
    if (values.has(name)) return member;
    if (schemasByName.has(name) && isMapping(member)) return membersOf(member, (_, each) => shown(each));
    return shown(member);
  });
}

export function shownAnnotations(annotations: ToolAnnotations): ToolAnnotations {
  const { title, ...hints } = annotations;
  return { ...hints, ...(title !== undefined && { title: cleanText(title, mostChars.title) }) };
}

function shown(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shown);
  return isMapping(value) ? shownSchema(value) : value;
}

function membersOf(of: Record<string, unknown>, make: (name: string, member: unknown) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(of).map(([name, member]) => [name, make(name, member)]));
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
