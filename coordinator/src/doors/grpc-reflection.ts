/**
 * What reflection tells of the services. The descriptors that proto-loader makes name the entries of maps after their fields alone; Go's library, and
 * so grpcurl, takes none but the name that the language lays down.
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
  const withEntries = (file: Buffer): Buffer => {
    const named = known.get(file) ?? nameEntries(file);
    known.set(file, named);
    return named;
  };
  const definitions = Object.entries(packages).map(([name, definition]) => {
    const files = "fileDescriptorProtos" in definition ? (definition.fileDescriptorProtos as Buffer[]) : undefined;
    return [name, files === undefined ? definition : { ...definition, fileDescriptorProtos: files.map(withEntries) }];
  });
  return Object.fromEntries(definitions);
}

function nameEntries(bytes: Buffer): Buffer {
  const file = descriptor.FileDescriptorProto.decode(bytes);
  for (const message of (file as IFileDescriptorProto).messageType ?? []) nameEntriesIn(message);
  return Buffer.from(descriptor.FileDescriptorProto.encode(file).finish());
}

function nameEntriesIn(message: IDescriptorProto): void {
  for (const nested of message.nestedType ?? []) {
    if (nested.options?.mapEntry !== true) {
      nameEntriesIn(nested);
      continue;
    }
    const field = message.field?.find(({ typeName }) => typeName === nested.name);
    if (field === undefined) continue; // it has its name already
    nested.name = entryName(field.name ?? "");
    field.typeName = nested.name;
  }
}

/** `max_size` has entries named `MaxSizeEntry`. */
const entryName = (field: string): string => `${field.replace(/(?:^|_)([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())}Entry`;
