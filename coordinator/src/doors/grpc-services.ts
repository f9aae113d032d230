/**
 * The services as grpc-js wants them: their methods, as the .proto files have them. Messages pass as bytes: what is no message is then refused by
 * us, in words, and nothing of the files is read before somebody calls what needs it.
 */

import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { grpcTwins } from "./route-access.ts";

export const inferenceServiceName = "inference.GRPCInferenceService";
export const healthServiceName = "grpc.health.v1.Health";
/** Clients ask for one or the other; they differ in nothing else. */
const reflectionServiceNames = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/** Which side says more than one message; of other methods neither does. */
const streams: Readonly<Record<string, { request: boolean; response: boolean }>> = {
  ModelStreamInfer: { request: true, response: true },
  Watch: { request: false, response: true },
  ServerReflectionInfo: { request: true, response: true },
};

const asItIs = (bytes: Buffer): Buffer => bytes;

function methodIn(service: string, name: string): MethodDefinition<Buffer, Buffer> {
  return {
    path: `/${service}/${name}`,
    requestStream: streams[name]?.request ?? false,
    responseStream: streams[name]?.response ?? false,
    requestSerialize: asItIs,
    requestDeserialize: asItIs,
    responseSerialize: asItIs,
    responseDeserialize: asItIs,
  };
}

const serviceOf = (service: string, names: readonly string[]): ServiceDefinition =>
  Object.fromEntries(names.map((name) => [name, methodIn(service, name)]));

const healthMethods = ["Check", "Watch"];
const inferenceMethods = Object.keys(grpcTwins).filter((name) => !healthMethods.includes(name));

export const inferenceService: ServiceDefinition = serviceOf(inferenceServiceName, inferenceMethods);
export const healthService: ServiceDefinition = serviceOf(healthServiceName, healthMethods);
export const reflectionServices: readonly ServiceDefinition[] = reflectionServiceNames.map((name) =>
  serviceOf(name, ["ServerReflectionInfo"]),
);
