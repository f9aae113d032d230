/** A gRPC client of the services that we describe, by grpc-js: messages are plain objects with the names of the .proto files. */

import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { packages } from "../../coordinator/src/doors/grpc-codecs.ts";

// biome-ignore lint/suspicious/noExplicitAny: the shape is what a test checks
type Message = any;

export interface GrpcAsk {
  metadata?: Record<string, string>;
  deadlineMs?: number;
  signal?: AbortSignal;
}

export interface GrpcAnswer {
  /** The word of the status; OK when it succeeded. */
  code: string;
  details: string;
  trailers: Record<string, string>;
  message: Message;
  tookMs: number;
}

export const inferenceService = "inference.GRPCInferenceService";
export const healthService = "grpc.health.v1.Health";

export function methodOf(service: string, name: string): MethodDefinition<Message, Message> {
  return (packages[service] as unknown as Record<string, MethodDefinition<Message, Message>>)[name]!;
}

function metadataOf(ask: GrpcAsk): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(ask.metadata ?? {})) metadata.set(key, value);
  return metadata;
}

const optionsOf = ({ deadlineMs }: GrpcAsk) => (deadlineMs === undefined ? {} : { deadline: Date.now() + deadlineMs });

function textsOf(metadata: Metadata): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata.getMap()).map(([key, value]) => [key, String(value)]));
}

export class GrpcClient implements Disposable {
  readonly #client: Client;

  /** `address` is host:port, or several as ipv4:host:port,host:port. */
  constructor(address: string, options: ChannelOptions = {}) {
    this.#client = new Client(address, credentials.createInsecure(), { "grpc.use_local_subchannel_pool": 1, ...options });
  }

  /** Never rejects: a failure is an answer. */
  call(name: string, request: Message, ask: GrpcAsk = {}, service: string = inferenceService): Promise<GrpcAnswer> {
    const { path, requestSerialize, responseDeserialize } = methodOf(service, name);
    return this.raw(path, request instanceof Uint8Array ? request : requestSerialize(request), ask, responseDeserialize);
  }

  /** A unary call of any path with a message of bytes. */
  raw(path: string, bytes: Uint8Array, ask: GrpcAsk = {}, read: (message: Buffer) => Message = (message) => message): Promise<GrpcAnswer> {
    const startMs = performance.now();
    return new Promise((resolve) => {
      let message: Message;
      let failure: ServiceError | null = null;
      const call = this.#client.makeUnaryRequest(
        path,
        (sent: Buffer) => sent,
        read,
        Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
        metadataOf(ask),
        optionsOf(ask),
        (error, answer) => {
          failure = error;
          message = answer;
        },
      );
      call.on("status", ({ code, details, metadata }) => {
        const tookMs = performance.now() - startMs;
        setImmediate(() => resolve({ code: status[failure?.code ?? code]!, details, trailers: textsOf(metadata), message, tookMs }));
      });
      ask.signal?.addEventListener("abort", () => call.cancel(), { once: true });
    });
  }

  stream(ask: GrpcAsk = {}): ClientDuplexStream<Message, Message> {
    const { path, requestSerialize, responseDeserialize } = methodOf(inferenceService, "ModelStreamInfer");
    return this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadataOf(ask), optionsOf(ask));
  }

  watch(service: string): ClientReadableStream<Message> {
    const { path, requestSerialize, responseDeserialize } = methodOf(healthService, "Watch");
    return this.#client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { service });
  }

  /** A stream of any method, messages as objects of `method`. */
  duplex(method: MethodDefinition<Message, Message>): ClientDuplexStream<Message, Message> {
    return this.#client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
  }

  close(): void {
    this.#client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** All messages of a stream, and the status that it ended with. */
export async function collect(
  stream: ClientReadableStream<Message> | ClientDuplexStream<Message, Message>,
): Promise<{ messages: Message[]; code: string; details: string }> {
  const messages: Message[] = [];
  stream.on("data", (message) => messages.push(message));
  stream.on("error", () => {}); // the status says it, too
  const { code, details } = await new Promise<{ code: number; details: string }>((resolve) => stream.on("status", resolve));
  return { messages, code: status[code]!, details };
}
