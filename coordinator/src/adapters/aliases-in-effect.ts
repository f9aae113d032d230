/** From when on an alias stands for what was asked: once this coordinator knows what it names, so that no request meets a name without a version. */

import { type AliasTarget, defaultAlias, type ModelAlias } from "@switchyard/protocol";
import type { AllAliases } from "../ports/alias-store.ts";

/**
 * `found`: as they stand in the store. One that names a version which is not known here yet stays what it was `before` (undefined: this coordinator
 * has just started); what it was must still be there. One that was nothing before takes effect at once, so that a refusal names the version which is
 * missing; but not the default, without which requests are served.
 */
export function aliasesInEffect(
  found: AllAliases,
  before: AllAliases | undefined,
  isKnown: (model: string, version: number) => boolean,
): AllAliases {
  const inEffect = new Map<string, ReadonlyMap<string, ModelAlias>>();
  for (const [model, aliases] of found) {
    const knowsAll = ({ target }: ModelAlias): boolean => versionsOf(target).every((version) => isKnown(model, version));
    const ofModel = [...aliases].flatMap(([alias, entry]) => {
      if (knowsAll(entry)) return [[alias, entry] as const];
      const earlier = before?.get(model)?.get(alias);
      if (earlier) return [[alias, knowsAll(earlier) ? earlier : entry] as const];
      return before && alias === defaultAlias ? [] : [[alias, entry] as const];
    });
    if (ofModel.length > 0) inEffect.set(model, new Map(ofModel));
  }
  return inEffect;
}

/** Those that must be known before requests go by it. */
function versionsOf({ shadow, split, version }: AliasTarget): number[] {
  const numbers = version === undefined ? Object.keys(split ?? {}).map(Number) : [version];
  return shadow ? [...numbers, shadow.version] : numbers;
}
