/**
 * The gRPC door: one server for the Open Inference Protocol's service, health and reflection. Owns what concerns every call: limits of
 * messages, who is refused before its message is read, draining.
 */

import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { createServer, type Server as TcpServer } from "node:net";
import {
  logVerbosity,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  ServerInterceptingCall,
  type ServerInterceptor,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { openAccess } from "../application/access.ts";
import { type DoorContext, type DoorParts, doorContext } from "./door-context.ts";
import { accessOfMethod, CallEnds, textOf, unary } from "./grpc-calls.ts";
import { GrpcHealth } from "./grpc-health.ts";
import { inferMessage } from "./grpc-inference.ts";
import { countMessages } from "./grpc-messages.ts";
import { modelHandlers } from "./grpc-models.ts";
import { healthService, inferenceService, reflectionServices } from "./grpc-services.ts";
import { grpcCodeOf, grpcStatus } from "./grpc-status.ts";
import { streamInfer } from "./grpc-stream.ts";
import { callerFor } from "./guard.ts";
import { requestIds } from "./http-server.ts";
import { cannotListen, listenOn, type Place, type Where } from "./listening.ts";
import { isMethod, type MethodName } from "./route-access.ts";

/** Calls under way on one connection. */
const mostStreams = 256;
/** A client that is silent for so long is asked whether it is still there, and its jobs are cancelled when it does not answer. */
const keepAliveMs = 60_000;
const keepAliveAnswerMs = 20_000;

export interface GrpcServer {
  /** Resolves with the address once it listens; throws a plain Error that says what to do when the port is taken. */
  listen(where: Where): Promise<Place>;
  /** Tells those who watch the server's health what has changed. */
  lookAtHealth(): void;
  /** Answers held inferences now: `draining`, with their job's id; jobs that nobody could ask for again are cancelled. */
  endHeld(): void;
  /** Sends clients away, lets calls that came before end, and resolves when the last answer is sent. */
  close(): Promise<void>;
}

export function createGrpcServer(parts: DoorParts): GrpcServer {
  setLogVerbosity(logVerbosity.NONE); // what it would print is told by the errors that we throw
  let closing = false;
  const context = doorContext(parts, () => closing);
  const ends = new CallEnds(context, requestIds());
  const health = new GrpcHealth(ends);
  const server = new Server({
    "grpc.max_receive_message_length": context.config.maxBodyBytes,
    "grpc.max_send_message_length": -1, // what was run is answered, as over HTTP
    "grpc.max_concurrent_streams": mostStreams,
    "grpc.keepalive_time_ms": keepAliveMs,
    "grpc.keepalive_timeout_ms": keepAliveAnswerMs,
    "grpc.enable_channelz": 0,
    interceptors: [countMessages(ends), ...(context.access === openAccess ? [] : [refuseEarly(ends)])],
  });
  server.addService(inferenceService, inferenceHandlers(context, ends));
  server.addService(healthService, { Check: unary(ends, "Check", health.check()), Watch: health.watch() });
  for (const service of reflectionServices) server.addService(service, { ServerReflectionInfo: reflect });
  const shared = new SharedDoors(server);
  return {
    listen: (where) => (where.isShared ? shared.listen(where) : listen(server, where)),
    lookAtHealth: () => health.look(),
    endHeld: () => context.calls.endHeld(),
    close: () => {
      closing = true;
      const doorsClosed = shared.close();
      // first: clients that are sent away by a status must not come back on the same connection
      const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      context.calls.endWaits();
      return Promise.all([closed, doorsClosed]).then(() => {});
    },
  };
}

/** The libraries are loaded with the first who asks. */
function reflect(call: ServerDuplexStream<Buffer, Buffer>): void {
  import("./grpc-reflection.ts").then(
    ({ answerReflection }) => answerReflection(call),
    (error: Error) => call.emit("error", error),
  );
}

function inferenceHandlers(context: DoorContext, ends: CallEnds): UntypedServiceImplementation {
  const handlers: UntypedServiceImplementation = {
    ModelInfer: unary(ends, "ModelInfer", (message, call) => inferMessage(context, message, call)),
    ModelStreamInfer: streamInfer(ends),
  };
  for (const [name, handler] of Object.entries(modelHandlers(context))) handlers[name] = unary(ends, name as MethodName, handler);
  return handlers;
}

/** A call without the scope ends before any of its message is read. The model is named in the message, so the handler asks again. */
function refuseEarly(ends: CallEnds): ServerInterceptor {
  return ({ path }, call) => {
    const method = path.slice(path.lastIndexOf("/") + 1);
    const access = isMethod(method) ? accessOfMethod(method) : "open"; // reflection is as open as the description of the HTTP routes
    if (!isMethod(method) || typeof access === "string") return new ServerInterceptingCall(call);
    const startMs = ends.context.clock.monotonicMs();
    const onReceiveMetadata = (metadata: Metadata, next: (metadata: Metadata) => void): void => {
      try {
        callerFor(ends.context.access, access, { authorization: textOf(metadata, "authorization") });
      } catch (thrown) {
        const { error, requestId } = ends.failure(thrown, { method, metadata });
        call.sendStatus(grpcStatus(error, requestId));
        ends.count(method, grpcCodeOf(error), startMs);
        return;
      }
      next(metadata);
    };
    return new ServerInterceptingCall(call, { start: (next) => next({ onReceiveMetadata }) });
  };
}

const absent = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT"]);

async function addressesOf(where: Place): Promise<string[]> {
  try {
    return (await lookup(where.host, { all: true })).map(({ address }) => address);
  } catch (error) {
    throw cannotListen(where, String((error as NodeJS.ErrnoException).code), error) ?? error;
  }
}

/** The library opens addresses itself, and not so that other processes may listen there, too: here they are opened for it. */
class SharedDoors {
  readonly #server: Server;
  readonly #doors: TcpServer[] = [];

  constructor(server: Server) {
    this.#server = server;
  }

  /** At each address that the host's name stands for, as the library does. */
  async listen(where: Where): Promise<Place> {
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    let at: Place | undefined;
    let missing: unknown;
    for (const address of await addressesOf(where)) {
      const door = createServer((socket) => injector.injectConnection(socket));
      try {
        const { port } = await listenOn(door, { ...where, host: address, port: at?.port ?? where.port });
        at = { host: where.host, port };
        this.#doors.push(door);
      } catch (error) {
        const { code } = (error as Error & { cause?: NodeJS.ErrnoException }).cause ?? (error as NodeJS.ErrnoException);
        if (!absent.has(String(code))) throw error;
        missing = error; // a name may stand for addresses of a family that this machine does without
      }
    }
    if (at === undefined) throw missing;
    return at;
  }

  /** Resolves when the last connection has ended, of which the library knows nothing where it did not open their address. */
  async close(): Promise<void> {
    const isOpen = this.#doors.filter(({ listening }) => listening);
    const closed = isOpen.map((door) => once(door, "close"));
    for (const door of isOpen) door.close();
    await Promise.all(closed);
  }
}

function listen(server: Server, where: Place): Promise<Place> {
  const { host, port } = where;
  return new Promise((resolve, reject) => {
    server.bindAsync(`${host.includes(":") ? `[${host}]` : host}:${port}`, ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) return resolve({ host, port: bound });
      const code = /\bE[A-Z]{4,}\b/.exec(error.message)?.[0] ?? "";
      reject(cannotListen(where, code, error) ?? error);
    });
  });
}
