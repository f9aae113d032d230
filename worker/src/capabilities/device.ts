/** What a host is made of, in the words that its registration carries: its class of device, and why it should not be called ready. Pure. */

import { type Capabilities, type Gpu, type ModelVersion, missingOfAll, requirementsOf } from "@switchyard/protocol";

/**
 * Provider, device and threads: hosts of one class are expected to take alike long for the same run. `cpu/2`, `cuda/NVIDIA H100/8`; with
 * servers behind it, their frameworks too: addresses are nobody else's business.
 */
export function deviceOf(host: { provider: string; gpus: readonly Gpu[]; threads: number; bridges: readonly string[] }): string {
  const { provider, gpus, threads, bridges } = host;
  const device = provider === "cpu" ? [provider] : [provider, gpus[0]?.name ?? "unknown device"];
  return [`${device.join("/")}/${threads}`, ...bridges.map((framework) => `via ${framework}`)].join(" ");
}

/**
 * Why this host must not be called ready although it lives: a model that belongs on a GPU would run on its CPU, if it ran here at all.
 * That is so when the host was told to use a provider that does not work, and when a GPU is there that no model can use.
 */
export function unreadyReason(
  host: Capabilities & { configured: readonly string[] },
  versions: Iterable<Pick<ModelVersion, "model" | "version" | "config" | "remote" | "require">>,
): string | undefined {
  const broken = host.configured.filter((name) => !host.providers.includes(name));
  if (broken.length > 0) return `provider ${broken.join(", ")} is configured and cannot be used on this machine`;
  if (host.gpus.length === 0 || host.providers.some((name) => name !== "cpu")) return undefined;
  for (const version of versions) {
    const missing = missingOfAll(host, requirementsOf(version));
    if (missing.length > 0 && missing.every((one) => one.startsWith("provider ")))
      return `${version.model} version ${version.version} needs ${missing.join(", ")}, which this machine's GPU does not offer`;
  }
  return undefined;
}

/** A GPU that works and that models get only when they insist on one: whoever has it may have forgotten to say so. */
export function unaskedProviders(host: Capabilities & { configured: readonly string[] }): string[] {
  if (host.gpus.length === 0 || host.configured.some((name) => name !== "cpu")) return [];
  return host.providers.filter((name) => name !== "cpu");
}

/** What a host lends to models that was not told how much: the GPU's memory where they go there, else half of its own. */
export function modelMemoryMb(host: { providers: readonly string[]; gpus: readonly Gpu[]; memoryMb: number }): number {
  const [gpu] = host.gpus;
  return gpu && host.providers[0] !== "cpu" ? gpu.memoryMb : Math.floor(host.memoryMb / 2);
}
