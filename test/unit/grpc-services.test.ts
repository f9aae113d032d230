/** The services as they are told to grpc-js, held against the .proto files. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { MethodDefinition } from "@grpc/grpc-js";
import { packages } from "../../coordinator/src/doors/grpc-codecs.ts";
import { healthService, healthServiceName, inferenceService, inferenceServiceName } from "../../coordinator/src/doors/grpc-services.ts";

const shapes = (service: unknown): unknown[] =>
  Object.entries(service as Record<string, MethodDefinition<unknown, unknown>>)
    .map(([name, { path, requestStream, responseStream }]) => ({ name, path, requestStream, responseStream }))
    .sort((one, other) => (one.name < other.name ? -1 : 1));

test("the services have the methods of the .proto files, with their paths and streams", () => {
  assert.equal(shapes(inferenceService).length, 12);
  assert.deepEqual(shapes(inferenceService), shapes(packages[inferenceServiceName]));
  assert.deepEqual(shapes(healthService), shapes(packages[healthServiceName]));
});
