/** A gRPC door on a free loopback port beside an HTTP door, both over the same fake job service. */

import type { TestContext } from "node:test";
import type { Access } from "../../coordinator/src/application/access.ts";
import type { HttpConfig } from "../../coordinator/src/doors/door-context.ts";
import { createGrpcServer, type GrpcServer } from "../../coordinator/src/doors/grpc-server.ts";
import type { Tracing } from "../../coordinator/src/ports/tracing.ts";
import { GrpcClient } from "./grpc-client.ts";
import { type OpenDoor, openDoor } from "./open-door.ts";

export interface OpenGrpc extends OpenDoor {
  /** host:port */
  grpc: string;
  grpcServer: GrpcServer;
  client: GrpcClient;
  /** Called before the servers close: calls that would hold them open. */
  leaving: (() => void)[];
}

export async function openGrpc(
  test: TestContext,
  config: Partial<HttpConfig> = {},
  { isShared = false, ...more }: { access?: Access; tracing?: Tracing; isShared?: boolean } = {},
): Promise<OpenGrpc> {
  const door = await openDoor(test, config, more);
  const grpcServer = createGrpcServer(door.parts);
  const { host, port } = await grpcServer.listen({ host: "127.0.0.1", port: 0, isShared });
  const grpc = `${host}:${port}`;
  const client = new GrpcClient(grpc);
  const leaving: (() => void)[] = [];
  test.after(async () => {
    for (const leave of leaving) leave();
    client.close();
    const closed = grpcServer.close();
    grpcServer.endHeld();
    await closed;
  });
  return { ...door, grpc, grpcServer, client, leaving };
}

/** The smallest right request of the fake models: `image` FP32 [1,4] for `tiny`. */
export function tinyMessage(extra: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    model_name: "tiny",
    inputs: [{ name: "image", datatype: "FP32", shape: [1, 4], contents: { fp32_contents: [1, 2, 3, 4] } }],
    ...extra,
  };
}
