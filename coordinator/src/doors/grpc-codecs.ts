/**
 * Codecs of messages, made from our .proto files, and what reflection tells of them. Loaded when first asked for: reading the files takes a tenth
 * of a coordinator's start, and inference has a codec of its own.
 */

import { fileURLToPath } from "node:url";
import type { MethodDefinition } from "@grpc/grpc-js";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { healthServiceName, inferenceServiceName } from "./grpc-services.ts";

const files = ["inference", "health"].map((name) => fileURLToPath(import.meta.resolve(`@switchyard/protocol/proto/${name}.proto`)));

export const packages: PackageDefinition = loadSync(files, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });

type Method = MethodDefinition<object, object>;

const methods = Object.assign({}, packages[inferenceServiceName], packages[healthServiceName]) as unknown as Record<string, Method>;

/** A method's messages as plain objects with the names of the .proto file; 64-bit numbers may be given as numbers or digits, and come as digits. */
export interface Messages {
  /** Throws what the codec throws for bytes that are no message. */
  read(message: Buffer): Record<string, unknown>;
  write(answer: object): Buffer;
}

export function messagesOf(name: string): Messages {
  const method = methods[name];
  if (method === undefined) throw new Error(`${name} stands in no .proto file`);
  return {
    read: (message) => method.requestDeserialize(message) as Record<string, unknown>,
    write: (answer) => method.responseSerialize(answer),
  };
}
