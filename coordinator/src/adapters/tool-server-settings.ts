/**
 * The configuration of MCP servers as other hosts write it, `{"mcpServers": {name: {command, …} or {url, …}}}`, with keys of our own. Pure:
 * from a document and variables to settings, every mistake, and warnings about keys that mean nothing here.
 */

import { isIP } from "node:net";
import path from "node:path";
import { protocolEras } from "@switchyard/protocol";
import { pathText, schemaFaults, valueInWords } from "@switchyard/protocol/schemas";
import { z } from "zod";
import type { ToolServerPlace, ToolServerSettings } from "../ports/tool-servers.ts";

export interface CheckedToolServers {
  servers: ToolServerSettings[];
  /** One line each. Where there is one, the servers are not to be used. */
  mistakes: string[];
  warnings: string[];
}

const mostServers = 100;
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const mostMs = 24 * 3_600_000;

const ms = z.number().int().min(1).max(mostMs);
const patterns = z.array(z.string().min(1).max(128)).max(500);
const texts = z.record(z.string(), z.string());

const range = z.string().refine(isRange, { message: "an address, or a range such as 10.0.0.0/8" });

const serverSchema = z.object({
  command: z.string().min(1).optional(),
  args: z.array(z.string()).max(1_000).optional(),
  env: texts.optional(),
  cwd: z.string().min(1).optional(),
  url: z
    .string()
    .refine((text) => /^https?:$/.test(URL.parse(text)?.protocol ?? ""), { message: "an address that begins with http:// or https://" })
    .optional(),
  headers: texts.optional(),
  type: z.enum(["stdio", "http", "streamable-http", "streamableHttp", "sse"]).optional(),
  disabled: z.boolean().optional(),
  trust: z.union([z.boolean(), z.enum(["none", "hints", "full"])], { error: "one of none, hints, full" }).optional(),
  allowTools: patterns.optional(),
  denyTools: patterns.optional(),
  timeoutMs: ms.optional(),
  maxTotalMs: ms.optional(),
  maxConcurrency: z.number().int().min(1).max(1_000).optional(),
  maxMessageBytes: z
    .number()
    .int()
    .min(65_536)
    .max(64 << 20)
    .optional(),
  protocolEra: z.enum(["auto", ...protocolEras]).optional(),
  required: z.boolean().optional(),
  restart: z.boolean().optional(),
  expose: z.union([z.boolean(), patterns], { error: "true, false or a list of tools" }).optional(),
  allowPrivate: z.union([z.boolean(), z.array(range).max(100)], { error: "true, false or a list of addresses and ranges" }).optional(),
  roots: z
    .array(
      z.object({ uri: z.string().startsWith("file://", { message: "an address that begins with file://" }), name: z.string().optional() }),
    )
    .max(100)
    .optional(),
  elicitation: z.enum(["off", "decline", "defaults"]).optional(),
});

type Entry = z.infer<typeof serverSchema>;

const schema = z.object({ mcpServers: z.record(z.string(), serverSchema) });

const onlyWith = { stdio: ["args", "env", "cwd"], http: ["headers", "allowPrivate"] } as const;
/** Members in which `${VARIABLE}` stands for a variable of this process. */
const expanded = new Set(["command", "args", "env", "cwd", "url", "headers", "roots"]);

/** `folder`: what relative paths start from, and where servers run that name no folder. */
export function checkToolServers(
  document: unknown,
  { env, folder }: { env: Readonly<Record<string, string | undefined>>; folder: string },
): CheckedToolServers {
  const mistakes: string[] = [];
  const warnings: string[] = [];
  const whole = expandAll(document, env, mistakes);
  const parsed = schema.safeParse(whole);
  if (!parsed.success) {
    // as it was written: what variables stand for may be a secret anywhere
    for (const fault of schemaFaults(schema, parsed.error.issues, document, cameInWords)) {
      mistakes.push(`${pathText(fault.path)}: ${fault.text}`);
    }
    return { servers: [], mistakes, warnings };
  }
  const entries = Object.entries(parsed.data.mcpServers);
  if (entries.length > mostServers) mistakes.push(`mcpServers: expected at most ${mostServers} servers, got ${entries.length}`);
  for (const key of Object.keys(whole as object)) if (key !== "mcpServers") warnings.push(`${key}: means nothing here`);
  const byFolded = new Map<string, string>();
  const servers: ToolServerSettings[] = [];
  for (const [name, entry] of entries) {
    const at = `mcpServers.${name}`;
    if (!namePattern.test(name)) mistakes.push(`${at}: expected a name of 1 to 64 letters, digits, dots, hyphens and underscores`);
    const other = byFolded.get(name.toLowerCase());
    if (other !== undefined) mistakes.push(`${at}: expected a name that differs from ${other} by more than its case`);
    byFolded.set(name.toLowerCase(), name);
    const written = (whole as { mcpServers: Record<string, object> }).mcpServers[name]!;
    for (const key of Object.keys(written)) if (!Object.hasOwn(serverSchema.shape, key)) warnings.push(`${at}.${key}: means nothing here`);
    const found = placeMistakes(entry).map((mistake) => `${at}${mistake}`);
    mistakes.push(...found);
    if (found.length === 0) servers.push(settingsOf(name, entry, { folder, raw: rawOf(document, name) }));
  }
  return { servers: mistakes.length > 0 ? [] : servers, mistakes, warnings };
}

/** What came, without what may be a secret: that stands in some members, and so in what holds members. */
function cameInWords(value: unknown, at: readonly PropertyKey[]): string {
  if (value === undefined) return valueInWords(value);
  if (at.some((step) => step === "env" || step === "headers" || step === "url"))
    return typeof value === "string" ? "other text" : "something else";
  const holds = typeof value === "object" && value !== null && Object.keys(value).length > 0;
  return holds ? (Array.isArray(value) ? "a list" : "a mapping") : valueInWords(value);
}

function placeMistakes(entry: Entry): string[] {
  const { command, timeoutMs, maxTotalMs, type, url } = entry;
  if (command === undefined && url === undefined) return [": expected either command or url, got neither"];
  if (command !== undefined && url !== undefined) return [": expected either command or url, got both"];
  const found: string[] = [];
  const kind = command === undefined ? "http" : "stdio";
  if (type !== undefined && (type === "stdio") !== (kind === "stdio")) {
    found.push(`.type: expected ${kind === "stdio" ? "stdio beside command" : "http or sse beside url"}, got "${type}"`);
  }
  for (const key of onlyWith[kind === "stdio" ? "http" : "stdio"]) {
    if (entry[key] !== undefined) found.push(`.${key}: expected only beside ${kind === "stdio" ? "url" : "command"}`);
  }
  if ((timeoutMs ?? 0) > (maxTotalMs ?? mostMs)) found.push(`.timeoutMs: expected at most maxTotalMs (${maxTotalMs}), got ${timeoutMs}`);
  const { headers = {} } = entry;
  for (const [name, value] of Object.entries(headers)) {
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) found.push(`.headers: expected names of HTTP headers, got ${JSON.stringify(name)}`);
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) found.push(`.headers.${name}: expected a value without control characters`);
  }
  return found;
}

/** What an entry was made of. */
interface From {
  folder: string;
  /** Before variables: of the same shape, as these stand in text only. */
  raw: Pick<Entry, "command" | "args" | "cwd">;
}

function rawOf(document: unknown, name: string): From["raw"] {
  return (document as { mcpServers: Record<string, From["raw"]> }).mcpServers[name] ?? {};
}

const defaults = { timeoutMs: 60_000, maxTotalMs: 600_000, maxConcurrency: 8, maxMessageBytes: 4 << 20 };
const anywhere = ["0.0.0.0/0", "::/0"];

function settingsOf(name: string, entry: Entry, from: From): ToolServerSettings {
  const maxTotalMs = entry.maxTotalMs ?? Math.max(defaults.maxTotalMs, entry.timeoutMs ?? 0);
  return {
    name,
    place: placeOf(entry, from),
    era: entry.protocolEra ?? "auto",
    disabled: entry.disabled ?? false,
    trust: typeof entry.trust === "boolean" ? (entry.trust ? "full" : "none") : (entry.trust ?? "none"),
    allowTools: entry.allowTools ?? [],
    denyTools: entry.denyTools ?? [],
    timeoutMs: Math.min(entry.timeoutMs ?? defaults.timeoutMs, maxTotalMs),
    maxTotalMs,
    maxConcurrency: entry.maxConcurrency ?? defaults.maxConcurrency,
    maxMessageBytes: entry.maxMessageBytes ?? defaults.maxMessageBytes,
    required: entry.required ?? false,
    restart: entry.restart ?? true,
    expose: typeof entry.expose === "boolean" ? (entry.expose ? ["*"] : []) : (entry.expose ?? []),
    roots: (entry.roots ?? []).map(({ name: label, uri }) => (label === undefined ? { uri } : { uri, name: label })),
    elicitation: entry.elicitation ?? "off",
  };
}

function placeOf(entry: Entry, { folder, raw }: From): ToolServerPlace {
  const { allowPrivate = false, args = [], command, cwd, env = {}, headers = {}, type, url } = entry;
  if (command !== undefined) {
    const written = { command: raw.command ?? command, args: raw.args ?? [], ...(raw.cwd !== undefined && { cwd: raw.cwd }) };
    return { kind: "stdio", command, args, env, cwd: path.resolve(folder, cwd ?? "."), written };
  }
  const ranges = typeof allowPrivate === "boolean" ? (allowPrivate ? anywhere : []) : allowPrivate;
  return { kind: type === "sse" ? "sse" : "http", url: url!, headers, allowPrivate: ranges };
}

/** The document with `${NAME}` and `${NAME:-otherwise}` replaced where servers are described; a variable that is not set is a mistake. */
function expandAll(document: unknown, env: Readonly<Record<string, string | undefined>>, mistakes: string[]): unknown {
  const expandIn = (value: unknown, at: string): unknown => {
    if (typeof value === "string") return expand(value, at, env, mistakes);
    if (Array.isArray(value)) return value.map((item, index) => expandIn(item, `${at}[${index}]`));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, expandIn(member, `${at}.${key}`)]));
  };
  if (!isMapping(document) || !isMapping(document.mcpServers)) return document;
  const servers = Object.entries(document.mcpServers).map(([name, entry]) => {
    if (!isMapping(entry)) return [name, entry];
    const members = Object.entries(entry).map(([key, member]) => [
      key,
      expanded.has(key) ? expandIn(member, `mcpServers.${name}.${key}`) : member,
    ]);
    return [name, Object.fromEntries(members)];
  });
  return { ...document, mcpServers: Object.fromEntries(servers) };
}

function expand(text: string, at: string, env: Readonly<Record<string, string | undefined>>, mistakes: string[]): string {
  return text.replace(/\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}/g, (written, name: string, otherwise: string | undefined) => {
    const value = env[name] ?? otherwise;
    if (value !== undefined) return value;
    mistakes.push(`${at}: expected the variable ${name} to be set, for ${written}`);
    return "";
  });
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isRange(text: string): boolean {
  const [address = "", bits, ...rest] = text.split("/");
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}
