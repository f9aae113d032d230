/**
 * What is shown is kept current by one stream of the server: each of its events also tells pages that it is time to look again. A key that
 * may not hear it looks by the clock instead. A page that nobody sees hears nothing: browsers keep few connections to one server.
 */

import { type Signal, signal } from "@preact/signals";
import type { OverviewView } from "@switchyard/protocol";
import { useEffect, useRef, useState } from "preact/hooks";
import { apiKey, ask, isAway, listen, Refusal } from "./api.ts";
import { nowMs, sleep } from "./clock.ts";
import { oneAtATime } from "./one-at-a-time.ts";
import { look } from "./session.ts";

export const overview = signal<OverviewView | undefined>(undefined);
/** Why it is not there, or not current. */
export const overviewFault = signal<Error | undefined>(undefined);
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
  overviewFault.value = undefined;
}

/** Why the stream brings nothing. One that has begun cannot say it, but the page of the same figures can. */
async function explain(error: Error | undefined, stop: AbortSignal): Promise<void> {
  const before = overview.value;
  const isOld = (): boolean => stop.aborted || overview.value !== before; // there was an event meanwhile
  try {
    if (error !== undefined) throw error;
    const next = await ask<OverviewView>("/v1/overview", { signal: stop });
    if (!isOld()) take(next);
  } catch (why) {
    if (!isOld()) overviewFault.value = why as Error;
  }
}

/** Until the signal aborts; begun anew with each key. */
export async function stayCurrent(stop: AbortSignal): Promise<void> {
  overview.value = undefined;
  overviewFault.value = undefined;
  try {
    while (await hear(stop));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    overviewFault.value = error;
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
  // without it pages ask all the same: they may have answers, or reasons
  const onLost = (error: Error | undefined): void => {
    void explain(error, unseen.signal);
    tell();
  };
  try {
    await listen("/v1/overview/events", { isMain: true, signal: unseen.signal, onEvent, onLost });
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

/**
 * What a path answers, looked at again with every beat; nothing is asked while there is no path. An answer that takes longer than a beat is
 * waited for, and looked at once more if there was a beat meanwhile.
 */
export function useResource<T>(path: string | undefined, how: { once?: boolean } = {}): Resource<T> {
  const [state, setState] = useState<{ path: string | undefined; value: T | undefined; error: Error | undefined }>({
    path,
    value: undefined,
    error: undefined,
  });
  const [asked, setAsked] = useState(0);
  const lookAgain = useRef((): void => {});
  const turn = how.once ? 0 : beat.value;
  const lastTurn = useRef(turn);
  // asked anew, whatever is on its way, with each path, key and wish, and when the server is back
  useEffect(() => {
    lastTurn.current = turn;
    if (path === undefined) return;
    const stop = new AbortController();
    const askOnce = async (): Promise<void> => {
      try {
        const value = await ask<T>(path, { signal: stop.signal, mayBeLong: how.once ?? false });
        if (!stop.signal.aborted) setState({ path, value, error: undefined });
      } catch (fault) {
        if (stop.signal.aborted) return;
        const error = fault as Error;
        lookAfter(error);
        setState((before) => ({ path, value: before.path === path ? before.value : undefined, error }));
      }
    };
    lookAgain.current = oneAtATime(askOnce, stop.signal);
    lookAgain.current();
    return () => stop.abort();
  }, [path, asked, apiKey.value, isAway.value]);
  useEffect(() => {
    if (turn !== lastTurn.current) lookAgain.current();
    lastTurn.current = turn;
  }, [turn]);
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
