/**
 * What reflection tells of the services, as protoc would. The descriptors that proto-loader makes name the entries of maps after their fields alone,
 * which Go's library, and so grpcurl, does not take; and they lack the fields' names in JSON, which not every client derives.
 */

import { type Server, type ServerDuplexStream, type ServiceDefinition, status, type UntypedServiceImplementation } from "@grpc/grpc-js";
import type { PackageDefinition } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import descriptor, { type IDescriptorProto, type IFileDescriptorProto } from "protobufjs/ext/descriptor.js";
import { packages } from "./grpc-codecs.ts";

type Added = [service: ServiceDefinition, handlers: UntypedServiceImplementation];

/** What the library would add to a server: v1 and v1alpha. */
const added: Added[] = [];
new ReflectionService(describable(packages)).addToServer({ addService: (...service: Added) => added.push(service) } as unknown as Server);

/** Answers one call of either version, whose messages pass as bytes. */
export function answerReflection(call: ServerDuplexStream<Buffer, Buffer>): void {
  const [service, handlers] = added.find(([{ ServerReflectionInfo: method }]) => method?.path === call.getPath())!;
  const method = service.ServerReflectionInfo!;
  let isOver = false;
  const decoded = (hear: (message: object) => void) => (bytes: Buffer) => {
    if (isOver) return; // what came behind a message that is none
    let message: object;
    try {
      message = method.requestDeserialize(bytes);
    } catch (error) {
      isOver = true;
      const details = `The message is no ServerReflectionRequest: ${(error as Error).message}`;
      call.emit("error", { code: status.INVALID_ARGUMENT, details });
      return;
    }
    hear(message);
  };
  const asked = {
    on: (event: string, hear: (message: object) => void) => call.on(event, event === "data" ? decoded(hear) : hear),
    write: (answer: object) => call.write(method.responseSerialize(answer)),
    end: () => isOver || call.end(),
  };
  (handlers.ServerReflectionInfo as unknown as (call: typeof asked) => void)(asked);
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

function inCapitals(name: string, letters: RegExp): string {
  return name.replace(letters, (_, letter: string) => letter.toUpperCase());
}
