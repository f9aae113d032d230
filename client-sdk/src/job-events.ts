/**
 * A job's events over SSE, as one unbroken sequence: when the stream breaks it is opened again behind the last event that was handed
 * out (Last-Event-ID), so nothing is missed and nothing comes twice. The only file that knows eventsource-parser.
 */

import { createParser, type EventSourceMessage } from "eventsource-parser";
import { timeLimit } from "./abort.ts";
import { ClientError, ConnectionError, TimeoutError } from "./client-errors.ts";
import { hasEnded, type JobView, readJobView } from "./job-records.ts";
import { mayRetry, retryDelayMs } from "./retry-policy.ts";
import type { Call, Transport } from "./transport.ts";

export interface JobEvent {
  /** Revision of the job's record; rises. */
  id: string;
  /** The state that was entered, `progress`, or `reset` when earlier events are no longer kept. */
  type: string;
  job: JobView;
}

export interface EventOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  /** Events up to and including this revision are left out. */
  lastEventId?: string | undefined;
}

/** The server sends a comment every 15 s; three missed ones mean that the line is dead. */
const silenceMs = 45_000;
const headersMs = 10_000;
const maxEventChars = 16 * 1024 * 1024;

/** Ends after the job's last event. Throws as Transport.once; a server that stays away for the retry policy's time is a ConnectionError. */
export async function* jobEvents(transport: Transport, jobId: string, options: EventOptions): AsyncGenerator<JobEvent, void, undefined> {
  const { clock, retry } = transport;
  const whole = timeLimit(clock, options.timeoutMs, options.signal);
  const line: Line = { lastId: options.lastEventId, signal: whole.signal, failures: 0, awaySinceMs: undefined, pauseMs: 0, isDone: false };
  try {
    while (!line.isDone) {
      try {
        for await (const message of messagesOf(transport, jobId, line)) {
          if (message.id !== undefined && message.event !== "reset" && isBehind(message.id, line.lastId)) continue;
          if (message.id !== undefined) line.lastId = message.id;
          const job = readJobView(message.data);
          yield { id: message.id ?? "", type: message.event ?? job.state, job };
          if (hasEnded(job.state)) return;
        }
        await transport.pause(Math.max(Math.min(line.pauseMs, retry.maxDelayMs), retry.minDelayMs), whole.signal);
      } catch (error) {
        if (!mayRetry(error)) throw error;
        line.awaySinceMs ??= clock.monotonicMs();
        const pauseMs = retryDelayMs(retry, ++line.failures, clock.jitter(), error.retryAfterMs);
        if (clock.monotonicMs() + pauseMs - line.awaySinceMs >= retry.giveUpAfterMs) throw error;
        await transport.pause(pauseMs, whole.signal);
      }
    }
  } catch (error) {
    if (!whole.isOver() || options.signal?.aborted) throw error;
    throw new TimeoutError(`job ${jobId} has not ended within ${options.timeoutMs} ms`, { jobId });
  } finally {
    whole.release();
  }
}

/** What is known between one connection and the next. */
interface Line {
  lastId: string | undefined;
  signal: AbortSignal | undefined;
  /** Tries since the server last answered. */
  failures: number;
  awaySinceMs: number | undefined;
  /** How long the server asks to wait before connecting again. */
  pauseMs: number;
  /** The server has nothing to come back for. */
  isDone: boolean;
}

function isBehind(id: string, lastId: string | undefined): boolean {
  if (lastId === undefined) return false;
  return id === lastId || (/^\d+$/.test(id) && /^\d+$/.test(lastId) && Number(id) <= Number(lastId));
}

/** One connection's messages. Leaving the loop closes the connection. */
async function* messagesOf(transport: Transport, jobId: string, line: Line): AsyncGenerator<EventSourceMessage, void, undefined> {
  const silence = timeLimit(transport.clock, silenceMs, line.signal);
  const url = transport.url;
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  try {
    const response = await transport.open(eventCall(jobId, line.lastId, silence.signal));
    line.failures = 0;
    line.awaySinceMs = undefined;
    if (response.body === null) {
      line.isDone = true;
      return;
    }
    reader = response.body.getReader();
    const onPause = (ms: number): void => {
      line.pauseMs = ms;
    };
    yield* parsed(reader, { restart: silence.restart, onPause });
  } catch (error) {
    if (line.signal?.aborted) throw line.signal.reason;
    if (error instanceof ClientError) throw error;
    throw new ConnectionError(url, silence.isOver() ? `nothing came for ${silenceMs / 1000} s` : "the event stream broke", error);
  } finally {
    silence.release();
    reader?.cancel().catch(() => {}); // the connection is already gone, or closes now
  }
}

function eventCall(jobId: string, lastId: string | undefined, signal: AbortSignal | undefined): Call {
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (lastId !== undefined) headers["last-event-id"] = lastId;
  return { path: `/v1/jobs/${encodeURIComponent(jobId)}/events`, headers, signal, tryMs: headersMs };
}

async function* parsed(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  hooks: { restart(): void; onPause(ms: number): void },
): AsyncGenerator<EventSourceMessage, void, undefined> {
  const messages: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => messages.push(message), onRetry: hooks.onPause, maxBufferSize: maxEventChars });
  const decoder = new TextDecoder();
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    hooks.restart();
    parser.feed(decoder.decode(chunk.value, { stream: true }));
    yield* messages.splice(0);
  }
}
