/**
 * What hosts can do, what models and jobs ask of them, and how the two are compared. Pure. A host that lacks anything of what is required
 * never takes, loads or runs the model; preferences only say which of the hosts that may are asked first.
 */

import type { Preference, Requirement } from "./schemas/requirement.ts";

export interface Gpu {
  name: string;
  memoryMb: number;
}

/** What is compared; part of every host's facts. */
export interface Capabilities {
  /** Execution providers of ONNX Runtime that load a model on this host. */
  providers: readonly string[];
  gpus: readonly Gpu[];
  /** `onnx`, and those of the servers that it forwards to. */
  frameworks: readonly string[];
  labels: Readonly<Record<string, string>>;
}

export const frameworkPattern: RegExp = /^[a-z0-9][a-z0-9._-]{0,62}$/;
/** `name=value`, as hosts carry them and models prefer them. */
export const labelPattern: RegExp = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}=[^=]{0,256}$/;

/** What the host lacks, in words such as `provider cuda` or `label site=north`; empty when it may run what requires this. */
export function missingOf(host: Capabilities, requirement: Requirement): string[] {
  const { providers, gpu_memory_mb: memoryMb, frameworks = [], labels = {} } = requirement;
  const missing: string[] = [];
  if (providers !== undefined && !providers.some((name) => host.providers.includes(name))) missing.push(`provider ${inWords(providers)}`);
  if (memoryMb !== undefined && !host.gpus.some((gpu) => gpu.memoryMb >= memoryMb)) missing.push(`a GPU with ${memoryMb} MB of memory`);
  for (const name of frameworks) if (!host.frameworks.includes(name)) missing.push(`framework ${name}`);
  for (const [name, value] of Object.entries(labels)) if (host.labels[name] !== value) missing.push(`label ${name}=${value}`);
  return missing;
}

function inWords(alternatives: readonly string[]): string {
  return alternatives.join(" or ");
}

/** As `missingOf`, for several requirements that hold together. */
export function missingOfAll(host: Capabilities, requirements: readonly Requirement[]): string[] {
  return [...new Set(requirements.flatMap((requirement) => missingOf(host, requirement)))];
}

/** Everything that is required, as it reads where there is no host at all. */
export function wordsOf(requirements: readonly Requirement[]): string[] {
  return missingOfAll({ providers: [], gpus: [], frameworks: [], labels: {} }, requirements);
}

/** The sum of the weights of those preferred labels that the host carries. */
export function preferenceOf(host: Pick<Capabilities, "labels">, preferences: readonly Preference[] = []): number {
  let score = 0;
  for (const { label, weight } of preferences) {
    const at = label.indexOf("=");
    if (host.labels[label.slice(0, at)] === label.slice(at + 1)) score += weight;
  }
  return score;
}

/** One text for requirements that mean the same; empty when nothing is required. */
export function canonicalRequirement(requirement: Requirement): string {
  const { providers, gpu_memory_mb: memoryMb, frameworks, labels } = requirement;
  const parts: Record<string, unknown> = {};
  if (providers !== undefined) parts.providers = [...new Set(providers)]; // their order is the order of preference
  if (memoryMb !== undefined) parts.gpu_memory_mb = memoryMb;
  if (frameworks !== undefined) parts.frameworks = [...new Set(frameworks)].sort();
  if (labels !== undefined && Object.keys(labels).length > 0) {
    parts.labels = Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1));
  }
  return Object.keys(parts).length === 0 ? "" : JSON.stringify(parts);
}

/** What is left of a requirement where these hold already. Every host has ONNX Runtime. */
export function beyond(requirement: Requirement, already: readonly Requirement[]): Requirement {
  const { providers, gpu_memory_mb: memoryMb, frameworks = [], labels = {} } = requirement;
  const rest: Requirement = {};
  const hasProvider = already.some((one) => one.providers?.every((name) => providers?.includes(name)));
  if (providers !== undefined && !hasProvider) rest.providers = providers;
  if (memoryMb !== undefined && !already.some((one) => (one.gpu_memory_mb ?? 0) >= memoryMb)) rest.gpu_memory_mb = memoryMb;
  const more = frameworks.filter((name) => name !== "onnx" && !already.some((one) => one.frameworks?.includes(name)));
  if (more.length > 0) rest.frameworks = more;
  const own = Object.entries(labels).filter(([name, value]) => !already.some((one) => one.labels?.[name] === value));
  if (own.length > 0) rest.labels = Object.fromEntries(own);
  return rest;
}

/** A label that no host can carry, because these require another value of it. */
export function contradictedLabel(
  { labels = {} }: Requirement,
  already: readonly Requirement[],
): { name: string; expected: string; got: string } | undefined {
  for (const [name, got] of Object.entries(labels)) {
    for (const one of already) {
      const expected = one.labels?.[name];
      if (expected !== undefined && expected !== got) return { name, expected, got };
    }
  }
  return undefined;
}

/** Providers to make a session with: the first required one that the host has, alone; the host's own choice where none is required. */
export function providersFor(
  requirements: readonly Requirement[],
  host: { providers: readonly string[]; own: readonly string[] },
): string[] {
  for (const { providers } of requirements) {
    const found = providers?.find((name) => host.providers.includes(name));
    if (found !== undefined) return [found];
  }
  return [...host.own];
}
