/** gRPC's health protocol: Check answers at once, Watch says each change. The server and its one service are ready or not together. */

import type { ServerWritableStream } from "@grpc/grpc-js";
import { SwitchyardError } from "@switchyard/protocol";
import { type CallEnds, grpcCall, type UnaryHandler } from "./grpc-calls.ts";
import type { Messages } from "./grpc-codecs.ts";
import { heldBy } from "./grpc-messages.ts";
import { codecOf, inMessages, readFields } from "./grpc-models.ts";
import { inferenceServiceName } from "./grpc-services.ts";
import { grpcStatus } from "./grpc-status.ts";
import { isReady } from "./model-views.ts";

type ServingStatus = "SERVING" | "NOT_SERVING" | "SERVICE_UNKNOWN";

const known: ReadonlySet<unknown> = new Set(["", inferenceServiceName]);

export class GrpcHealth {
  readonly #ends: CallEnds;
  /** Says the state if it changed. */
  readonly #watchers = new Set<() => void>();

  constructor(ends: CallEnds) {
    this.#ends = ends;
  }

  check(): UnaryHandler {
    return inMessages("Check", ({ service }) => {
      if (!known.has(service)) throw new SwitchyardError("not_found", `There is no service '${String(service).slice(0, 128)}' here`);
      return { status: this.#status() };
    });
  }

  watch() {
    return async (stream: ServerWritableStream<Buffer, Buffer>): Promise<void> => {
      const startMs = this.#ends.context.clock.monotonicMs();
      heldBy(stream.metadata).leave();
      const end = (thrown: unknown): void => {
        const { error, requestId } = this.#ends.failure(thrown, { method: "Watch", metadata: stream.metadata });
        stream.emit("error", grpcStatus(error, requestId));
      };
      try {
        const messages = await codecOf("Watch");
        const { service } = readFields("HealthCheck", messages, stream.request);
        const left = (code: string): void => this.#ends.count("Watch", code, startMs);
        this.#follow(stream, () => (known.has(service) ? this.#status() : "SERVICE_UNKNOWN"), { messages, end, left });
      } catch (thrown) {
        end(thrown);
        this.#ends.count("Watch", "INVALID_ARGUMENT", startMs);
      }
    };
  }

  /** Tells those that watch what has changed; called over and over. */
  look(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }

  #follow(
    stream: ServerWritableStream<Buffer, Buffer>,
    status: () => ServingStatus,
    how: { messages: Messages; end: (thrown: unknown) => void; left: (code: string) => void },
  ): void {
    let said: ServingStatus | undefined;
    const look = (): void => {
      const now = status();
      if (now !== said) stream.write(how.messages.write({ status: now }));
      said = now;
    };
    const { line } = grpcCall(this.#ends.context, "Watch", stream);
    const call = this.#ends.context.calls.waiting(line);
    const leave = (): void => {
      this.#watchers.delete(look);
      call.end();
      how.left(call.toldToGo() ? "UNAVAILABLE" : "CANCELLED");
      if (!call.toldToGo()) return;
      look();
      how.end(new SwitchyardError("draining", "This coordinator is shutting down; watch another one"));
    };
    this.#watchers.add(look);
    look();
    if (call.signal.aborted) leave();
    else call.signal.addEventListener("abort", leave, { once: true });
  }

  #status(): ServingStatus {
    return isReady(this.#ends.context) ? "SERVING" : "NOT_SERVING";
  }
}
