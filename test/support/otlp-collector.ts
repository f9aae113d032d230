/** A collector for tests: takes spans as OTLP's protobuf over HTTP, as any collector does, and keeps them. */

import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import protobuf from "protobufjs";
import { until } from "./until.ts";

/** Of opentelemetry/proto/trace/v1/trace.proto, what is looked at here. */
const messages = `
syntax = "proto3";
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
message KeyValue { string key = 1; AnyValue value = 2; }
message Resource { repeated KeyValue attributes = 1; }
message Link { bytes trace_id = 1; bytes span_id = 2; }
message Status { string message = 2; int32 code = 3; }
message Span {
  bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
  fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; repeated Link links = 13; Status status = 15;
}
message ScopeSpans { repeated Span spans = 2; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Export { repeated ResourceSpans resource_spans = 1; }`;
const exportType = protobuf.parse(messages, { keepCase: false }).root.lookupType("Export");

export interface SeenSpan {
  traceId: string;
  spanId: string;
  /** "" for the first of a trace. */
  parentId: string;
  name: string;
  service: string;
  state: string;
  startMs: number;
  endMs: number;
  attributes: Record<string, string | number | boolean>;
  links: { traceId: string; spanId: string }[];
  /** 0 unset, 1 ok, 2 error. */
  status: number;
  statusText: string;
}

export interface OtlpCollector extends AsyncDisposable {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  url: string;
  spans: SeenSpan[];
  /** Headers of the last post. */
  headers(): IncomingMessage["headers"];
  /** Answers 400 from now on, or no longer. */
  refuse(refuses: boolean): void;
  ofTrace(traceId: string): SeenSpan[];
  /** Waits until the trace has spans of all these names, as often as they are named. */
  whole(traceId: string, names: readonly string[]): Promise<SeenSpan[]>;
  close(): Promise<void>;
}

export async function startCollector(): Promise<OtlpCollector> {
  const spans: SeenSpan[] = [];
  let refuses = false;
  let headers: IncomingMessage["headers"] = {};
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      headers = request.headers;
      const sent = Buffer.concat(chunks);
      const isRight = request.method === "POST" && request.url === "/v1/traces" && headers["content-type"] === "application/x-protobuf";
      if (refuses) return void response.writeHead(400).end();
      if (isRight) spans.push(...spansIn(headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent));
      response.writeHead(isRight ? 200 : 415, { "content-type": "application/x-protobuf" }).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  const ofTrace = (traceId: string): SeenSpan[] => spans.filter((span) => span.traceId === traceId);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    headers: () => headers,
    refuse: (now) => {
      refuses = now;
    },
    ofTrace,
    whole: (traceId, names) =>
      until(
        `spans ${names.join(", ")} of trace ${traceId}`,
        async () => {
          const seen = ofTrace(traceId);
          const left = seen.map(({ name }) => name);
          for (const name of names) {
            const at = left.indexOf(name);
            if (at === -1) return false;
            left.splice(at, 1);
          }
          return seen;
        },
        { show: () => JSON.stringify(ofTrace(traceId), undefined, 1) },
      ),
    close,
    [Symbol.asyncDispose]: close,
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a decoded message
type Message = any;

function spansIn(bytes: Uint8Array): SeenSpan[] {
  const { resourceSpans } = exportType.toObject(exportType.decode(bytes), { arrays: true, longs: String }) as Message;
  return resourceSpans.flatMap(({ resource, scopeSpans }: Message) =>
    scopeSpans.flatMap(({ spans }: Message) =>
      spans.map(
        (span: Message): SeenSpan => ({
          traceId: hex(span.traceId),
          spanId: hex(span.spanId),
          parentId: hex(span.parentSpanId),
          name: span.name,
          service: String(valuesOf(resource.attributes)["service.name"]),
          state: span.traceState ?? "",
          startMs: Number(span.startTimeUnixNano) / 1e6,
          endMs: Number(span.endTimeUnixNano) / 1e6,
          attributes: valuesOf(span.attributes),
          links: span.links.map((link: Message) => ({ traceId: hex(link.traceId), spanId: hex(link.spanId) })),
          status: span.status?.code ?? 0,
          statusText: span.status?.message ?? "",
        }),
      ),
    ),
  );
}

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex");

function valuesOf(pairs: Message[]): Record<string, string | number | boolean> {
  return Object.fromEntries(
    pairs.map(({ key, value = {} }) => [
      key,
      value.stringValue ?? value.boolValue ?? value.doubleValue ?? (value.intValue === undefined ? "" : Number(value.intValue)),
    ]),
  );
}
