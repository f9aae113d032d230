/** How tools of other servers are called and described where this cluster shows or offers them. Pure. What they say of themselves is a stranger's text. */

import { createHash } from "node:crypto";

/** What hosts and interfaces of language models take for a name. */
const mostNameChars = 64;
const hashChars = 8;
const mostDescriptionChars = 1_024;

/** `<server>__<tool>`; what is too long, can be read in two ways or has characters that some hosts refuse ends with a hash, so that no two become one. */
export function exposedName(server: string, tool: string): string {
  const plain = `${server}__${tool}`;
  const clean = plain.replace(/[^A-Za-z0-9_-]/g, "_");
  const isOneWay = /^[^_]+(_[^_]+)*__[^_]+(_[^_]+)*$/.test(plain);
  if (clean === plain && isOneWay && plain.length <= mostNameChars) return plain;
  const hash = createHash("sha256").update(`${server}/${tool}`).digest("hex").slice(0, hashChars);
  return `${clean.slice(0, mostNameChars - hashChars - 1)}_${hash}`;
}

/** Control, direction and invisible characters are what hides instructions from the people who read a description. */
const hidden = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]/gu;

/** One line of shown text; undefined for none. */
export function cleanText(text: string | undefined, mostChars: number = mostDescriptionChars): string | undefined {
  if (text === undefined) return undefined;
  const clean = text.toWellFormed().replace(hidden, " ").replace(/\s+/g, " ").trim();
  return clean.length <= mostChars ? clean : `${clean.slice(0, mostChars - 1).toWellFormed()}…`;
}

/** Says whose words they are. */
export function exposedDescription(server: string, description: string | undefined): string {
  const origin = `A tool of the MCP server '${server}', described by it as: `;
  return `${origin}${cleanText(description, mostDescriptionChars - origin.length) ?? "nothing"}`;
}
