/**
 * ModelStreamInfer: one answer for each message, in their order, though the jobs run side by side. A message that fails is answered inside
 * the stream, which goes on; only who may not call at all, and a drain, end it with a status.
 */

import type { Metadata, ServerDuplexStream } from "@grpc/grpc-js";
import { SwitchyardError } from "@switchyard/protocol";
import { decodeModelInferRequest, encodeStreamedAnswer, type ModelInferCall } from "@switchyard/protocol/grpc";
import { bufferOf } from "./answers.ts";
import { type CallEnds, callSpan, endCallSpan, type GrpcCall, grpcCall } from "./grpc-calls.ts";
import { infer } from "./grpc-inference.ts";
import { grpcCodeOf, grpcStatus } from "./grpc-status.ts";
import { v2Text } from "./problem.ts";

/** Messages of one stream under way; more are left with the client. */
const mostUnderWay = 64;
const method = "ModelStreamInfer";

type Stream = ServerDuplexStream<Buffer, Buffer>;

export function streamInfer(ends: CallEnds) {
  return (stream: Stream): void => {
    const call = grpcCall(ends.context, method, stream);
    try {
      call.callerFor();
    } catch (thrown) {
      const { error, requestId } = ends.failure(thrown, { method, metadata: stream.metadata });
      stream.emit("error", grpcStatus(error, requestId));
      return;
    }
    new InferStream(ends, stream, call).start();
  };
}

class InferStream {
  readonly #ends: CallEnds;
  readonly #stream: Stream;
  readonly #call: GrpcCall;
  /** Answers in order, of messages that are under way or wait for one before them. */
  readonly #answers: Promise<Buffer>[] = [];
  /** Of the messages that are under way, in their order. */
  readonly #sizes: number[] = [];
  #bytes = 0;
  #count = 0;
  #isWriting = false;
  /** No more messages are taken. */
  #isOver = false;
  /** Messages that came when this coordinator had begun to end. */
  #leftOut = false;
  #left: (() => void) | undefined;

  constructor(ends: CallEnds, stream: Stream, call: GrpcCall) {
    this.#ends = ends;
    this.#stream = stream;
    this.#call = call;
  }

  start(): void {
    const stream = this.#stream;
    stream.setMaxListeners(mostUnderWay + 10); // each message under way listens for a client that goes away
    const drained = this.#ends.context.calls.waiting(this.#call.line);
    const onDrain = (): void => this.#end();
    drained.signal.addEventListener("abort", onDrain);
    this.#left = () => {
      drained.signal.removeEventListener("abort", onDrain);
      drained.end();
    };
    stream.on("data", (message: Buffer) => this.#take(message));
    stream.on("end", () => this.#end());
    stream.on("close", () => this.#left?.());
    if (drained.signal.aborted) this.#end();
  }

  #take(message: Buffer): void {
    if (this.#isOver) {
      this.#leftOut = true;
      this.#call.messages.decoded(message);
      return;
    }
    this.#answers.push(this.#answer(message, this.#count++));
    this.#sizes.push(message.length);
    this.#bytes += message.length;
    if (this.#isFull()) {
      this.#stream.pause();
      this.#call.messages.pause();
    }
    this.#call.messages.decoded(message);
    void this.#write();
  }

  /** Together they may be as large as the largest one. */
  #isFull(): boolean {
    return this.#answers.length >= mostUnderWay || this.#bytes >= this.#ends.context.config.maxBodyBytes;
  }

  #end(): void {
    this.#isOver = true;
    void this.#write();
  }

  /** Never rejects. */
  async #answer(message: Buffer, place: number): Promise<Buffer> {
    const { context } = this.#ends;
    const startMs = context.clock.monotonicMs();
    const span = callSpan(context.tracing, method, this.#stream.metadata);
    const call = span ? { ...this.#call, trace: span.context } : this.#call;
    let asked: ModelInferCall | undefined;
    try {
      asked = decodeModelInferRequest(message);
      const answer = await infer(context, { message, asked, place }, call);
      endCallSpan(span);
      this.#ends.count(method, "OK", startMs);
      return bufferOf(encodeStreamedAnswer({ answer: answer.message }));
    } catch (thrown) {
      const { error } = this.#ends.failure(thrown, { method, metadata: this.#stream.metadata, span });
      endCallSpan(span, error);
      this.#ends.count(method, grpcCodeOf(error), startMs);
      const { modelName = "", modelVersion = "", request } = asked ?? {};
      return bufferOf(encodeStreamedAnswer({ error: v2Text(error), modelName, modelVersion, id: request?.id }));
    }
  }

  /** Writes what is answered, in order, and ends the stream when nothing is left and nothing more will come. */
  async #write(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    const stream = this.#stream;
    for (let next = this.#answers[0]; next !== undefined; next = this.#answers[0]) {
      const answer = await next;
      if (stream.cancelled || stream.destroyed) break;
      if (!stream.write(answer)) await drainOf(stream);
      void this.#answers.shift();
      this.#bytes -= this.#sizes.shift()!;
      if (this.#isFull() || this.#isOver) continue;
      stream.resume();
      this.#call.messages.resume();
    }
    this.#isWriting = false;
    if (this.#isOver && this.#answers.length === 0 && !stream.destroyed) this.#close();
  }

  #close(): void {
    const { context } = this.#ends;
    const isHalfClosed = this.#stream.readableEnded && !this.#leftOut;
    if (isHalfClosed || !context.draining()) return void this.#stream.end();
    const left = new SwitchyardError("draining", "This coordinator is shutting down; open a new stream to another one");
    const { error, requestId } = this.#ends.failure(left, { method, metadata: this.#stream.metadata as Metadata });
    this.#stream.emit("error", grpcStatus(error, requestId));
  }
}

/** Until the stream takes more, or is over. */
function drainOf(stream: Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off("drain", done).off("close", done);
      resolve();
    };
    stream.on("drain", done).on("close", done);
  });
}
