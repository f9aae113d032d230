/**
 * A job's events over SSE, as one unbroken sequence: when the stream breaks it is opened again behind the last event that was handed
 * out (Last-Event-ID), so nothing is missed and nothing comes twice. The only file that knows eventsource-parser.
 */

import { createParser, type EventSourceMessage } from "eventsource-parser";
import { timeLimit } from "./abort.ts";
import { ClientError, ConnectionError, TimeoutError } from "./client-errors.ts";
import { hasEnded, type JobView, readJobView } from "./job-records.ts";
import { mayRetry, retryDelayMs } from "./retry-policy.ts";
import type { Transport } from "./transport.ts";

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
  let lastId = options.lastEventId;
  let failures = 0;
  let awaySinceMs: number | undefined;
  let serverPauseMs: number | undefined;
  try {
    for (;;) {
      let failure: ClientError | undefined;
      try {
        const stream = openStream(transport, jobId, { lastId, signal: whole.signal, onPause: (ms) => (serverPauseMs = ms) });
        for await (const message of stream) {
          failures = 0;
          awaySinceMs = undefined;
          if (message.id !== undefined && message.event !== "reset" && isBehind(message.id, lastId)) continue;
          if (message.id !== undefined) lastId = message.id;
          const job = readJobView(message.data);
          yield { id: message.id ?? "", type: message.event ?? job.state, job };
          if (hasEnded(job.state)) return;
        }
      } catch (error) {
        if (!mayRetry(error)) throw error;
        failure = error;
      }
      failures++;
      awaySinceMs ??= clock.monotonicMs();
      const pauseMs =
        failure === undefined
          ? Math.min(serverPauseMs ?? 0, retry.maxDelayMs)
          : retryDelayMs(retry, failures, clock.jitter(), failure.retryAfterMs);
      if (clock.monotonicMs() + pauseMs - awaySinceMs >= retry.giveUpAfterMs)
        throw failure ?? new ConnectionError(transport.url, "the event stream keeps ending");
      await transport.pause(Math.max(pauseMs, retry.minDelayMs), whole.signal);
    }
  } catch (error) {
    if (whole.isOver() && !options.signal?.aborted)
      throw new TimeoutError(`job ${jobId} has not ended within ${options.timeoutMs} ms`, { jobId });
    throw error;
  } finally {
    whole.release();
  }
}

function isBehind(id: string, lastId: string | undefined): boolean {
  if (lastId === undefined) return false;
  return id === lastId || (/^\d+$/.test(id) && /^\d+$/.test(lastId) && Number(id) <= Number(lastId));
}

interface StreamSource {
  lastId: string | undefined;
  signal: AbortSignal | undefined;
  onPause(ms: number): void;
}

/** One connection's messages. Leaving the loop closes the connection. */
async function* openStream(transport: Transport, jobId: string, source: StreamSource): AsyncGenerator<EventSourceMessage, void, undefined> {
  const silence = timeLimit(transport.clock, silenceMs, source.signal);
  const messages: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (message) => messages.push(message), onRetry: source.onPause, maxBufferSize: maxEventChars });
  const headers: Record<string, string> = { accept: "text/event-stream" };
  if (source.lastId !== undefined) headers["last-event-id"] = source.lastId;
  const url = transport.url;
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  try {
    const response = await transport.open({
      path: `/v1/jobs/${encodeURIComponent(jobId)}/events`,
      headers,
      signal: silence.signal,
      tryMs: headersMs,
    });
    reader = response.body!.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const chunk = await reader.read();
      if (chunk.done) return;
      silence.restart();
      parser.feed(decoder.decode(chunk.value, { stream: true }));
      yield* messages.splice(0);
    }
  } catch (error) {
    if (source.signal?.aborted) throw source.signal.reason;
    if (error instanceof ClientError) throw error;
    throw new ConnectionError(url, silence.isOver() ? `nothing came for ${silenceMs / 1000} s` : "the event stream broke", error);
  } finally {
    silence.release();
    reader?.cancel().catch(() => {}); // the connection is already gone, or closes now
  }
}
