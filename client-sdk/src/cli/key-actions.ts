/** What the commands of `switchyard keys` do. */

import { randomBytes } from "node:crypto";
import {
  type ApiKeyEntry,
  checkKeyFile,
  digestOfSecret,
  expiryMs,
  type Scope,
  secretOf,
  tenantPattern,
} from "@switchyard/protocol/api-keys";
import type { Command } from "commander";
import { ClientError } from "../client-errors.ts";
import type { Cli } from "./cli.ts";
import { UsageError } from "./exit-codes.ts";
import { appendKey, entryText, readKeyFile, removeKey } from "./key-file.ts";
import { textTable } from "./text-table.ts";

export interface NewOptions {
  tenant: string;
  id?: string;
  weight?: string;
  scopes?: string[];
  models?: string[];
  expires?: string;
  file?: string;
}

export async function newKey(cli: Cli, command: Command, options: NewOptions): Promise<void> {
  const secret = secretOf(randomBytes(32));
  const make = (others: readonly ApiKeyEntry[]): ApiKeyEntry =>
    checkedEntry(others, entryOf(options, { secret, others, nowMs: cli.clock.nowMs() }));
  const { file } = options;
  const entry = file === undefined ? make([]) : await appendKey(file, make);
  if (cli.wantsJson(command)) return cli.printJson({ secret, ...entry });
  if (file === undefined) {
    cli.print(`Secret, shown this once:\n  ${secret}\n\nEntry for the key file:\n${entryText(entry)}`);
    return;
  }
  cli.print(secret);
  cli.note(`${entry.id} is in ${file}; its secret is shown this once`);
}

function entryOf(options: NewOptions, about: { secret: string; others: readonly ApiKeyEntry[]; nowMs: number }): ApiKeyEntry {
  const { tenant, models, expires } = options;
  const weight = options.weight === undefined ? about.others.find((other) => other.tenant === tenant)?.weight : Number(options.weight);
  const entry: ApiKeyEntry = {
    id: options.id ?? `${tenantPattern.test(tenant) ? tenant : "key"}-${shortName()}`,
    sha256: digestOfSecret(about.secret),
    tenant,
    weight: weight ?? 1,
    scopes: (options.scopes ?? ["submit", "read"]) as Scope[],
  };
  if (models) entry.models = models;
  if (expires !== undefined) entry.expires = endOf(expires, about.nowMs);
  return entry;
}

/** The file's own rules say what is wrong with the options. */
function checkedEntry(others: readonly ApiKeyEntry[], entry: ApiKeyEntry): ApiKeyEntry {
  const checked = checkKeyFile([...others, entry]);
  if ("entries" in checked) return entry;
  throw new UsageError(
    `no key was made: ${checked.mistakes.map(({ text }) => text.replace(/^entry \d+( \([^)]*\))?: /, "--")).join("; ")}`,
  );
}

/** Letters and digits that are not taken for one another. */
function shortName(): string {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  return Array.from(randomBytes(6), (byte) => letters[byte % letters.length]).join("");
}

const unitMs: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

function endOf(text: string, nowMs: number): string {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  const ms = count === undefined ? expiryMs(text) : nowMs + Number(count) * unitMs[unit!]!;
  if (ms === undefined) throw new UsageError(`--expires: expected a time such as 2030-01-31T12:00:00Z, a date, or 90d, 12h, got ${text}`);
  if (ms <= nowMs) throw new UsageError(`--expires: expected a time to come, got ${text}`);
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function fileOf(options: { file?: string }): string {
  const file = options.file ?? process.env.SWITCHYARD_API_KEYS;
  if (file === undefined || file === "") throw new UsageError("which file? give --file, or set SWITCHYARD_API_KEYS");
  return file;
}

export async function listKeys(cli: Cli, command: Command, options: { file?: string }): Promise<void> {
  const file = fileOf(options);
  const entries = await readKeyFile(file);
  if (cli.wantsJson(command)) {
    for (const entry of entries) cli.printJson(entry);
    return;
  }
  if (entries.length === 0) return cli.note(`no keys in ${file}`);
  const columns = [
    { title: "ID" },
    { title: "TENANT" },
    { title: "WEIGHT", align: "right" as const },
    { title: "SCOPES" },
    { title: "MODELS" },
    { title: "EXPIRES" },
  ];
  const isOver = (expires: string): boolean => (expiryMs(expires) ?? 0) <= cli.clock.nowMs();
  const rows = entries.map(({ id, tenant, weight, scopes, models, expires }) => [
    id,
    tenant,
    weight,
    scopes.join(","),
    models?.join(",") ?? "all",
    expires === undefined ? "never" : `${expires}${isOver(expires) ? " (expired)" : ""}`,
  ]);
  cli.print(textTable(columns, rows));
}

export async function revokeKey(cli: Cli, command: Command, id: string, options: { file?: string }): Promise<void> {
  const file = fileOf(options);
  const removed = await removeKey(file, id);
  if (removed === undefined) throw new ClientError("key_not_found", `${file} has no key ${id}`, { status: 404 });
  if (cli.wantsJson(command)) return cli.printJson(removed);
  cli.note(`${id} of tenant ${removed.tenant} is no longer in ${file}`);
}
