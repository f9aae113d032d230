/**
 * What reflection tells of the services, as protoc would. The descriptors that proto-loader makes name the entries of maps after their fields alone,
 * which Go's library, and so grpcurl, does not take; and they lack the fields' names in JSON, which not every client derives.
 */

import type { Server } from "@grpc/grpc-js";
import type { PackageDefinition } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import descriptor, { type IDescriptorProto, type IFileDescriptorProto } from "protobufjs/ext/descriptor.js";

export function addReflection(server: Server, packages: PackageDefinition): void {
  new ReflectionService(describable(packages)).addToServer(server);
}

function describable(packages: PackageDefinition): PackageDefinition {
  const known = new Map<Buffer, Buffer>();
  const mended = (file: Buffer): Buffer => {
    const whole = known.get(file) ?? mendFile(file);
    known.set(file, whole);
    return whole;
  };
  const definitions = Object.entries(packages).map(([name, definition]) => {
    const files = "fileDescriptorProtos" in definition ? (definition.fileDescriptorProtos as Buffer[]) : undefined;
    return [name, files === undefined ? definition : { ...definition, fileDescriptorProtos: files.map(mended) }];
  });
  return Object.fromEntries(definitions);
}

function mendFile(bytes: Buffer): Buffer {
  const file = descriptor.FileDescriptorProto.decode(bytes);
  for (const message of (file as IFileDescriptorProto).messageType ?? []) mendMessage(message);
  return Buffer.from(descriptor.FileDescriptorProto.encode(file).finish());
}

function mendMessage(message: IDescriptorProto): void {
  for (const field of message.field ?? []) field.jsonName = inCapitals(field.name ?? "", /_([a-z0-9])/g);
  for (const nested of message.nestedType ?? []) {
    if (nested.options?.mapEntry !== true) {
      mendMessage(nested);
      continue;
    }
    const field = message.field?.find(({ typeName }) => typeName === nested.name);
    if (field === undefined) continue; // it has its name already
    nested.name = `${inCapitals(field.name ?? "", /(?:^|_)([a-z0-9])/g)}Entry`;
    field.typeName = nested.name;
  }
}

const inCapitals = (name: string, letters: RegExp): string => name.replace(letters, (_, letter: string) => letter.toUpperCase());
