/** Values of command line options, read strictly. Each throws commander's InvalidArgumentError, which names the option. */

import type { Requirement } from "@switchyard/protocol";
import { InvalidArgumentError } from "commander";
import type { BoundArgument } from "../tool-servers.ts";

const unitMs: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** `500`, `500ms`, `5s`, `2m`, `1h` in milliseconds. */
export function duration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  if (match === null || Number(match[1]) === 0) throw new InvalidArgumentError("Give a time such as 500ms, 5s, 2m or 1h.");
  return Number(match[1]) * unitMs[match[2] ?? "ms"]!;
}

export function positiveWhole(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 1 || !Number.isSafeInteger(Number(text)))
    throw new InvalidArgumentError("Give a whole number of at least 1.");
  return Number(text);
}

export function oneOf<Word extends string>(...words: readonly Word[]): (text: string) => Word {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word === undefined) throw new InvalidArgumentError(`Give one of ${words.join(", ")}.`);
    return word;
  };
}

export function commaList(text: string): string[] {
  const words = text.split(",").map((word) => word.trim());
  if (words.includes("")) throw new InvalidArgumentError("Give words separated by commas.");
  return words;
}

export function collect(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

export function tag(text: string, before: Record<string, string> | undefined): Record<string, string> {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Give a tag as key=value.");
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** `/output=<job>:/outputs/label/0`: a pointer into the arguments, a job's id, a pointer into the job. */
export function bindings(text: string, before: Record<string, BoundArgument> | undefined): Record<string, BoundArgument> {
  const [, target, job, pointer] = /^(\/[^=]*)=([^:]+):(\/.*)?$/s.exec(text) ?? [];
  if (target === undefined || job === undefined)
    throw new InvalidArgumentError("Give /argument=job:/pointer, such as /output=$id:/outputs/label/0.");
  return { ...before, [target]: { job, pointer: pointer ?? "" } };
}

/** `provider=cuda`, `gpu-memory-mb=16000`, `framework=pytorch`, `label:site=north`; those that are repeated add up. */
export function requirement(text: string, before: Requirement = {}): Requirement {
  const at = text.indexOf("=");
  const [what, value] = [text.slice(0, at), text.slice(at + 1)];
  if (what === "provider" && value !== "") return { ...before, providers: [...(before.providers ?? []), value] };
  if (what === "framework" && value !== "") return { ...before, frameworks: [...(before.frameworks ?? []), value] };
  if (what === "gpu-memory-mb") return { ...before, gpu_memory_mb: positiveWhole(value) };
  if (what.startsWith("label:") && what.length > 6) return { ...before, labels: { ...before.labels, [what.slice(6)]: value } };
  throw new InvalidArgumentError("Give provider=name, gpu-memory-mb=n, framework=name or label:name=value.");
}
