/** What `switchyard doctor` says of the file of API keys: whether it can be used, who may change it, which keys end soon. */

import { statSync } from "node:fs";
import { type ApiKeyEntry, expiryMs } from "@switchyard/protocol/api-keys";
import { readKeyFile } from "../adapters/key-file.ts";
import type { Finding } from "./finding.ts";

const subject = "api keys";
const soonDays = 14;
const dayMs = 86_400_000;
/** Who may write the file may make a key; its digests tell a reader nothing. */
const writableByOthers = 0o022;

export function keyFileFindings(path: string | undefined, nowMs: number): Finding[] {
  if (path === undefined) return [{ subject, state: "ok", found: "no key file: one tenant, on loopback addresses only" }];
  const read = readKeyFile(path);
  if ("mistakes" in read) {
    return [
      { subject, state: "missing", found: read.mistakes.join("; "), fix: "mend the file, or make another with `switchyard keys new`" },
    ];
  }
  const { entries } = read;
  const tenants = new Set(entries.map(({ tenant }) => tenant)).size;
  const counted = `${entries.length} ${entries.length === 1 ? "key" : "keys"} of ${tenants} ${tenants === 1 ? "tenant" : "tenants"} in ${path}`;
  const findings = [...openMode(path), ...expiries(entries, nowMs)];
  if (entries.length === 0) findings.push(warning(counted, "nobody may call: make a key with `switchyard keys new`"));
  return findings.length === 0 ? [{ subject, state: "ok", found: counted }] : findings;
}

function warning(found: string, fix: string): Finding {
  return { subject, state: "warning", found, fix };
}

function openMode(path: string): Finding[] {
  const { mode } = statSync(path);
  if (process.platform === "win32" || (mode & writableByOthers) === 0) return [];
  const shown = (mode & 0o777).toString(8).padStart(4, "0");
  return [warning(`${path} has mode ${shown}: others than its owner may write it, and so make keys`, `chmod go-w ${path}`)];
}

function expiries(entries: readonly ApiKeyEntry[], nowMs: number): Finding[] {
  const ending = entries.flatMap(({ id, expires }) => {
    const endMs = expires === undefined ? undefined : expiryMs(expires);
    return endMs === undefined ? [] : [{ id, endMs, expires }];
  });
  const over = ending.filter(({ endMs }) => endMs <= nowMs);
  const soon = ending.filter(({ endMs }) => endMs > nowMs && endMs <= nowMs + soonDays * dayMs);
  const list = (keys: typeof ending): string => keys.map(({ id, expires }) => `${id} (${expires})`).join(", ");
  const findings: Finding[] = [];
  if (over.length > 0) findings.push(warning(`expired: ${list(over)}`, "remove them with `switchyard keys revoke`"));
  if (soon.length > 0) findings.push(warning(`expire within ${soonDays} days: ${list(soon)}`, "make new ones with `switchyard keys new`"));
  return findings;
}
