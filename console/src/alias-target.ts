/** What an alias stands for: in words, and from the fields of a form. Pure. */

import type { AliasTarget } from "@switchyard/protocol";
import { percent } from "./format.ts";

export interface AliasFields {
  kind: "version" | "split" | "alias";
  version: string;
  /** Weights by version, as they were typed; what is empty takes no part. */
  weights: Readonly<Record<string, string>>;
  alias: string;
  /** Version, "" for none, and percent. */
  shadow: string;
  shadowPercent: string;
}

export function standsFor({ alias, shadow, split, version }: AliasTarget): string {
  const shares = Object.entries(split ?? {});
  const sum = shares.reduce((total, [, weight]) => total + weight, 0);
  const versions = shares.map(([one, weight]) => `version ${one} for ${percent(weight / sum)}`).join(", ");
  const main = version !== undefined ? `version ${version}` : alias !== undefined ? `alias ${alias}` : versions;
  return shadow ? `${main}; shadow: version ${shadow.version} for ${percent(shadow.share)}` : main;
}

/** `first`: the version that the form begins with where there is no alias yet. */
export function fieldsOf(target: AliasTarget | undefined, first: string): AliasFields {
  const { alias = "", shadow, split = {}, version } = target ?? {};
  return {
    kind: alias !== "" ? "alias" : Object.keys(split).length > 0 ? "split" : "version",
    version: String(version ?? first),
    weights: Object.fromEntries(Object.entries(split).map(([one, weight]) => [one, String(weight)])),
    alias,
    shadow: shadow ? String(shadow.version) : "",
    shadowPercent: shadow ? String(Number((100 * shadow.share).toPrecision(6))) : "10",
  };
}

/** Throws with the field that has to be filled in; whether the target makes sense is the server's to say. */
export function targetFrom(fields: AliasFields): AliasTarget {
  const { alias, kind, shadow, shadowPercent, version, weights } = fields;
  if (kind === "alias") {
    if (alias === "") throw new Error("Choose the alias that it is to stand for");
    return { alias };
  }
  const beside =
    shadow === "" ? {} : { shadow: { version: Number(shadow), share: numberIn("Percent of the shadow", shadowPercent) / 100 } };
  if (kind === "version") return { version: Number(version), ...beside };
  const given = Object.entries(weights).filter(([, weight]) => weight.trim() !== "");
  if (given.length === 0) throw new Error("Give at least one version a weight");
  return { split: Object.fromEntries(given.map(([one, weight]) => [one, numberIn(`Weight of version ${one}`, weight)])), ...beside };
}

function numberIn(field: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new Error(`${field}: a number, not "${text}"`);
  return value;
}
