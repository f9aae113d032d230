/** The services as grpc-js wants them, from our .proto files. Messages pass as bytes: what is no message is then refused by us, in words. */

import { fileURLToPath } from "node:url";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";

const files = ["inference", "health"].map((name) => fileURLToPath(import.meta.resolve(`@switchyard/protocol/proto/${name}.proto`)));

export const packages: PackageDefinition = loadSync(files, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });

type Method = MethodDefinition<object, object>;

function serviceOf(name: string): Record<string, Method> {
  return packages[name] as unknown as Record<string, Method>;
}

export const inferenceServiceName = "inference.GRPCInferenceService";
const inference = serviceOf(inferenceServiceName);
const health = serviceOf("grpc.health.v1.Health");

const asItIs = (bytes: Buffer): Buffer => bytes;

function inBytes(service: Record<string, Method>): ServiceDefinition {
  const methods = Object.entries(service).map(([name, method]) => [
    name,
    { ...method, requestSerialize: asItIs, requestDeserialize: asItIs, responseSerialize: asItIs, responseDeserialize: asItIs },
  ]);
  return Object.fromEntries(methods);
}

export const inferenceService: ServiceDefinition = inBytes(inference);
export const healthService: ServiceDefinition = inBytes(health);

/** A method's messages as plain objects with the names of the .proto file; 64-bit numbers may be given as numbers or digits, and come as digits. */
export interface Messages {
  /** Throws what the codec throws for bytes that are no message. */
  read(message: Buffer): Record<string, unknown>;
  write(answer: object): Buffer;
}

export function messagesOf(name: string): Messages {
  const method = inference[name] ?? health[name];
  if (method === undefined) throw new Error(`${name} stands in no .proto file`);
  return {
    read: (message) => method.requestDeserialize(message) as Record<string, unknown>,
    write: (answer) => method.responseSerialize(answer),
  };
}
