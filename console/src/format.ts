/** Figures as people read them. */

import { nowMs } from "./clock.ts";

const places = (value: number): number => (value >= 100 || value === Math.round(value) ? 0 : value >= 10 ? 1 : 2);

export function number(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: places(Math.abs(value)) });
}

/** Milliseconds with a unit; a dash where there is no value. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1_000) return `${number(ms)} ms`;
  if (ms < 60_000) return `${number(ms / 1_000)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${Math.round((ms % 60_000) / 1_000)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  let [value, at] = [bytes, 0];
  for (; value >= 1_024 && at < units.length - 1; at++) value /= 1_024;
  return `${number(value)} ${units[at]}`;
}

export function percent(share: number): string {
  return `${number(100 * share)} %`;
}

/** The day is left out where it is today's. */
export function time(text: string): string {
  const at = new Date(text);
  const clock = at.toLocaleTimeString("en-GB", { hour12: false });
  return at.toDateString() === new Date(nowMs()).toDateString() ? clock : `${at.toLocaleDateString("en-CA")} ${clock}`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${number(count)} ${count === 1 ? one : many}`;
}
