/**
 * Calls of the interface: the only file that calls fetch. The key is kept for this tab only, and goes nowhere but into the header. Knows
 * whether the server answers, so that the page can say so.
 */

import { computed, signal } from "@preact/signals";
import type { Problem } from "@switchyard/protocol";
import { createParser } from "eventsource-parser";
import { sleep, timeLimit } from "./clock.ts";

const keyName = "switchyard-api-key";

export const apiKey = signal(sessionStorage.getItem(keyName) ?? "");
/** Whether the last call got no answer. */
const isUnanswered = signal(false);
/** Streams that were lost, or whose last connection brought nothing, and that have brought nothing since. */
const lostStreams = signal(0);
/** Whether what is shown may be old. A stream must bring something to be back: its connection is answered before anybody knows whether there are events. */
export const isAway = computed(() => isUnanswered.value || lostStreams.value > 0);

export function useKey(key: string): void {
  if (key === "") sessionStorage.removeItem(keyName);
  else sessionStorage.setItem(keyName, key);
  apiKey.value = key;
}

/** A refusal, in the server's words. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, { code, detail }: Pick<Problem, "code" | "detail">) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** No answer. */
export class Away extends Error {}

export interface Call {
  method?: "GET" | "POST" | "PUT" | "DELETE";
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** What is asked for may be large: it takes its time. */
  mayBeLong?: boolean;
}

/** Pages wait for an answer that is on its way before they ask again, so one that will never come must end. */
const longestAnswerMs = 45_000;

async function answerTo(path: string, { body, headers, method = "GET", signal: stop }: Call): Promise<Response> {
  const all: Record<string, string> = { accept: "application/json", ...headers };
  if (apiKey.value !== "") all.authorization = `Bearer ${apiKey.value}`;
  const init: RequestInit = { method, headers: all, cache: "no-store", credentials: "omit" };
  if (stop) init.signal = stop;
  if (body !== undefined) {
    all["content-type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (stop?.aborted) throw error;
    isUnanswered.value = true;
    throw new Away("The server does not answer");
  }
  isUnanswered.value = false;
  if (answer.ok) return answer;
  const text = await answer.text().catch(() => "");
  throw new Refusal(answer.status, problemIn(text, answer));
}

function problemIn(text: string, { status, statusText }: Response): Pick<Problem, "code" | "detail"> {
  try {
    const { code, detail, error } = JSON.parse(text) as Partial<Problem> & { error?: string };
    return { code: code ?? String(status), detail: detail ?? error ?? statusText };
  } catch {
    return { code: String(status), detail: `The server answered ${status} ${statusText}` };
  }
}

/** The answer's JSON. Throws Refusal or Away. */
export async function ask<T>(path: string, call: Call = {}): Promise<T> {
  const { mayBeLong, method = "GET", signal: stop = new AbortController().signal } = call;
  const limit = method === "GET" && !mayBeLong ? timeLimit(longestAnswerMs, stop) : undefined;
  try {
    const answer = await answerTo(path, { ...call, signal: limit?.signal ?? stop });
    return (answer.status === 204 ? undefined : await answer.json()) as T;
  } catch (error) {
    throw limit?.isOver() && !stop.aborted ? new Away(`No answer came in ${longestAnswerMs / 1_000} s`) : error;
  } finally {
    limit?.release();
  }
}

export interface ServerEvent {
  event: string;
  data: string;
}

const pausesMs = { first: 500, longest: 5_000 };
/** The server sends a comment every 15 s; three missed ones mean that the line is dead. */
const silenceMs = 45_000;

interface Listening {
  signal: AbortSignal;
  onEvent: (event: ServerEvent) => void;
  /** A connection was lost, or ended without having brought anything: then there is no error, as a stream that has begun cannot say why. */
  onLost?: (error: Error | undefined) => void;
  /** What the whole console shows comes by it: also while it is refused, nothing is current. */
  isMain?: boolean;
}

/**
 * Server-sent events until the signal aborts, through lost connections: by fetch, as EventSource can send no key. Ends by itself only when the
 * server refuses (the refusal is thrown) or has nothing more to say.
 */
export async function listen(path: string, { isMain = false, onEvent, onLost, signal: stop }: Listening): Promise<void> {
  let lastId = "";
  let pauseMs = pausesMs.first;
  let hasBrought = false; // the connection that is open, or was last
  let isLost = false;
  const lost = (is: boolean): void => {
    if (is !== isLost) lostStreams.value += is ? 1 : -1;
    isLost = is;
  };
  const heard = (): void => {
    hasBrought = true;
    lost(false);
  };
  const parser = createParser({
    onComment: heard,
    onEvent: ({ data, event = "message", id }) => {
      if (id !== undefined) lastId = id;
      pauseMs = pausesMs.first;
      heard();
      onEvent({ event, data });
    },
  });
  try {
    while (!stop.aborted) {
      const silence = timeLimit(silenceMs, stop);
      let error: Error | undefined;
      hasBrought = false;
      try {
        const headers: Record<string, string> = { accept: "text/event-stream" };
        if (lastId !== "") headers["last-event-id"] = lastId;
        const answer = await answerTo(path, { headers, signal: silence.signal });
        if (answer.status === 204 || answer.body === null) return;
        parser.reset();
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let part = await reader.read(); !part.done; part = await reader.read()) {
          silence.restart();
          parser.feed(part.value);
        }
      } catch (fault) {
        if (stop.aborted) return;
        // too many streams may be fewer soon
        if (fault instanceof Refusal && fault.status < 500 && fault.status !== 429) throw fault;
        const why = silence.isOver() ? `The server has sent nothing for ${silenceMs / 1_000} s` : "The connection was lost";
        error = fault instanceof Refusal || fault instanceof Away ? fault : new Away(why);
      } finally {
        silence.release();
      }
      if (stop.aborted) return;
      if (error !== undefined || !hasBrought) {
        if (isMain || !(error instanceof Refusal)) lost(true);
        onLost?.(error);
      }
      await sleep(pauseMs, stop);
      pauseMs = Math.min(2 * pauseMs, pausesMs.longest);
    }
  } finally {
    lost(false);
  }
}
