/** Which hosts a queue's tickets are for, where that matters: those that have what is required, and among them the preferred ones. Pure. */

import { type ModelVersion, missingOfAll, preferenceOf, requirementsOf, wordsOf } from "@switchyard/protocol";
import type { HostSnapshot } from "../ports/host-registry.ts";

export interface HostChoice {
  /** Ready hosts that have all that is required. */
  able: readonly HostSnapshot[];
  /** Those of them that are asked: the best by preference that have not failed to load the model, lately. */
  chosen: readonly HostSnapshot[];
  /** What the host that comes closest lacks, or all that is required where there is no host; empty when one is able. */
  missing: readonly string[];
}

export function chooseHosts(version: ModelVersion, ready: readonly HostSnapshot[]): HostChoice {
  const requirements = requirementsOf(version);
  const lacks = ready.map((host) => missingOfAll(host.facts, requirements));
  const able = ready.filter((_host, at) => lacks[at]!.length === 0);
  if (able.length === 0) {
    const closest = lacks.reduce<string[] | undefined>((best, one) => (best && best.length <= one.length ? best : one), undefined);
    return { able, chosen: [], missing: closest ?? wordsOf(requirements) };
  }
  const loading = able.filter((host) => host.failures[version.tag] === undefined);
  const candidates = loading.length > 0 ? loading : able;
  const scores = candidates.map((host) => preferenceOf(host.facts, version.config.prefer));
  const best = Math.max(...scores);
  return { able, chosen: candidates.filter((_host, at) => scores[at] === best), missing: [] };
}
