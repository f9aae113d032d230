/**
 * W3C trace context: which trace something belongs to, and whether that trace is recorded, as it travels in headers, in the metadata of gRPC
 * calls and in the record of a job. Whoever does not understand what came passes it over, as the recommendation says.
 */

export interface TraceContext {
  /** 32 hex digits. */
  traceId: string;
  /** Of the span that is the parent of what follows; 16 hex digits. */
  spanId: string;
  /** The decision of whoever began the trace; everybody follows it. */
  isSampled: boolean;
  /** `tracestate`, as it came: what tracing systems say to themselves. */
  state?: string;
}

const parentPattern = /^(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
/** Longer ones need not be carried. */
const mostStateChars = 512;

/** Of `traceparent` and `tracestate`; undefined when there is none, or none that is understood. */
export function readTraceContext(parent: string | undefined, state?: string): TraceContext | undefined {
  const [, version, traceId, spanId, flags, more] = (parent && parentPattern.exec(parent)) || [];
  if (traceId === undefined || spanId === undefined || (version === "00" && more !== undefined)) return undefined;
  const context: TraceContext = { traceId, spanId, isSampled: (Number.parseInt(flags as string, 16) & 1) === 1 };
  if (state && state.length <= mostStateChars && /^[\x20-\x7e]+$/.test(state)) context.state = state;
  return context;
}

export function traceparentOf({ traceId, spanId, isSampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${isSampled ? "01" : "00"}`;
}

/** One word without spaces and quotes: the traceparent, and behind a semicolon the state. */
export function traceWordOf(context: TraceContext): string {
  return context.state === undefined ? traceparentOf(context) : `${traceparentOf(context)};${encodeURIComponent(context.state)}`;
}

export function readTraceWord(word: string): TraceContext | undefined {
  const [parent, state] = word.split(";", 2);
  return readTraceContext(parent, state === undefined ? undefined : decodeURIComponent(state));
}

/** What is known of a job's trace by its record. */
export interface JobTrace {
  /** The span of the job itself, from its admission to its end. */
  context: TraceContext;
  /** The span that the job was admitted in. */
  parentSpanId: string;
}
