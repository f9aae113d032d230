/** What this host can do, once its runtime has been asked, and what follows from it: which models it may serve, and how it is asked for them. */

import { type HostFacts, type ModelVersion, missingOfAll, requirementsOf } from "@switchyard/protocol";
import { profileOf } from "@switchyard/protocol/redis";
import { deviceOf, unaskedProviders, unreadyReason } from "./device.ts";

/** The rest is known once the runtime has been asked. */
export type GivenFacts = Omit<HostFacts, "providers" | "profile" | "device">;

interface Settings {
  /** Execution providers that it was told to use. */
  providers: readonly string[];
  threads: number;
  bridges: Readonly<Record<string, string>>;
}

export class Abilities {
  readonly facts: HostFacts;
  readonly #settings: Settings;

  /** `providers` are those that load a model on this machine. */
  constructor(given: GivenFacts, settings: Settings, providers: string[]) {
    this.#settings = settings;
    const provider = settings.providers.find((name) => providers.includes(name)) ?? "cpu";
    const device = deviceOf({ provider, gpus: given.gpus, threads: settings.threads, bridges: Object.keys(settings.bridges).sort() });
    this.facts = { ...given, providers, device, profile: profileOf({ ...given, providers }) };
  }

  /** Whether this host has all that the queue's jobs require. */
  fits(version: ModelVersion): boolean {
    return missingOfAll(this.facts, requirementsOf(version)).length === 0;
  }

  /** Tickets of models with preferences are meant for hosts of one profile. */
  profileFor(version: ModelVersion | undefined): string | undefined {
    return version?.config.prefer?.length ? this.facts.profile : undefined;
  }

  /** Providers that work here and that only models get which require them. */
  unasked(): string[] {
    return unaskedProviders({ ...this.facts, configured: this.#settings.providers });
  }

  unreadyReason(versions: readonly ModelVersion[]): string | undefined {
    return unreadyReason({ ...this.facts, configured: this.#settings.providers }, versions);
  }
}
