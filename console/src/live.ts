/**
 * What is shown is kept current by one stream of the server: each of its events also tells pages that it is time to look again. A key that
 * may not hear it looks by the clock instead. A page that nobody sees hears nothing: browsers keep few connections to one server.
 */

import { type Signal, signal } from "@preact/signals";
import type { OverviewView } from "@switchyard/protocol";
import { useEffect, useState } from "preact/hooks";
import { apiKey, ask, isAway, listen, Refusal } from "./api.ts";
import { nowMs, sleep } from "./clock.ts";
import { look } from "./session.ts";

export const overview = signal<OverviewView | undefined>(undefined);
/** Rises when pages should look again. */
export const beat = signal(0);

/** Points of the series that are kept: five minutes. */
const mostPoints = 150;
const beatMs = 2_000;

let beatenMs = 0;
function tell(): void {
  if (document.hidden || nowMs() - beatenMs < beatMs / 2) return;
  beatenMs = nowMs();
  beat.value += 1;
}

function take(next: OverviewView): void {
  const before = overview.value?.series ?? [];
  const known = new Set(before.map(({ at }) => at));
  const series = [...before, ...next.series.filter(({ at }) => !known.has(at))].slice(-mostPoints);
  overview.value = { ...next, series };
}

/** Until the signal aborts; begun anew with each key. */
export async function stayCurrent(stop: AbortSignal): Promise<void> {
  overview.value = undefined;
  try {
    while (await hear(stop));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    lookAfter(error);
  }
  while (!stop.aborted) {
    tell();
    await sleep(beatMs, stop);
  }
}

/** Listens once, while somebody sees the page. Answers whether there may be more to hear. Throws Refusal. */
async function hear(stop: AbortSignal): Promise<boolean> {
  await visibility(true, stop);
  if (stop.aborted) return false;
  const unseen = new AbortController();
  const heard = new AbortController();
  void visibility(false, AbortSignal.any([stop, heard.signal])).then(() => unseen.abort());
  const onEvent = ({ data }: { data: string }): void => {
    take(JSON.parse(data) as OverviewView);
    tell();
  };
  try {
    await listen("/v1/overview/events", { signal: unseen.signal, onEvent });
    return unseen.signal.aborted;
  } finally {
    heard.abort();
  }
}

/** Resolves once the page is seen, or is not, or the signal aborts. */
function visibility(isSeen: boolean, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const check = (): void => {
      if (document.hidden === isSeen && !stop.aborted) return;
      over.abort();
      resolve();
    };
    document.addEventListener("visibilitychange", check, { signal: over.signal });
    stop.addEventListener("abort", check, { signal: over.signal });
    check();
  });
}

/** A key that is refused in the middle was revoked or has expired: who asks is asked for anew. */
function lookAfter(error: Error): void {
  if (error instanceof Refusal && error.status === 401) void look();
}

export interface Resource<T> {
  value: T | undefined;
  /** Of the last look, also where an earlier value is still shown. */
  error: Error | undefined;
  again: () => void;
}

/** What a path answers, looked at again with every beat; nothing is asked while there is no path. */
export function useResource<T>(path: string | undefined, how: { once?: boolean } = {}): Resource<T> {
  const [state, setState] = useState<{ path: string | undefined; value: T | undefined; error: Error | undefined }>({
    path,
    value: undefined,
    error: undefined,
  });
  const [asked, setAsked] = useState(0);
  const turn = how.once ? 0 : beat.value;
  // asked anew with each beat, key and wish, and when the server is back
  useEffect(() => {
    if (path === undefined) return;
    const stop = new AbortController();
    ask<T>(path, { signal: stop.signal })
      .then((value) => setState({ path, value, error: undefined }))
      .catch((error: Error) => {
        if (stop.signal.aborted) return;
        lookAfter(error);
        setState((before) => ({ path, value: before.path === path ? before.value : undefined, error }));
      });
    return () => stop.abort();
  }, [path, turn, asked, apiKey.value, isAway.value]);
  return {
    value: state.path === path ? state.value : undefined,
    error: state.path === path ? state.error : undefined,
    again: () => setAsked((count) => count + 1),
  };
}

/** A signal's part that is kept in this browser. */
export function keptSignal(name: string, first: string): Signal<string> {
  const kept = signal(localStorage.getItem(name) ?? first);
  kept.subscribe((value) => localStorage.setItem(name, value));
  return kept;
}
