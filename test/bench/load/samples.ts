/** The requests that every system gets, and what a direct run of the model answers to each. */

import { encodeInferRequest, type JobClass, jobClasses } from "@switchyard/protocol";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { inferenceService, methodOf } from "../../support/grpc-client.ts";
import { openSession } from "../systems/direct-session.ts";
import type { Wire } from "./connection.ts";
import { grpcRequest } from "./grpc-connection.ts";
import { jobRequest, toolRequest } from "./json-requests.ts";

const modelInfer = methodOf(inferenceService, "ModelInfer");

export interface Sample {
  /** A whole request, ready to be written; made when it is first asked for. */
  requests: Record<Wire, () => Buffer>;
  expected: Float32Array;
}

export interface SampleModel {
  name: string;
  path: string;
  itemShape: readonly number[];
}

/** An input, and what a direct run of the model answers to it. */
export interface Case {
  shape: readonly number[];
  bytes: Uint8Array;
  expected: Float32Array;
}

/** Runs of one path, so that each case is run once however many loads use it. */
const known = new Map<string, Promise<Case[]>>();

/** Throws when two cases have the same answer: then a mixed-up answer would go unnoticed. */
export function makeCases(model: SampleModel, count: number): Promise<Case[]> {
  const name = `${model.path} ${count}`;
  const cases = known.get(name) ?? runCases(model, count);
  known.set(name, cases);
  return cases;
}

async function runCases(model: SampleModel, count: number): Promise<Case[]> {
  const session = await openSession(model.path, 1, ["cpu"]);
  const random = seededRandom(11);
  const size = model.itemShape.reduce((left, right) => left * right, 1);
  const cases: Case[] = [];
  for (let index = 0; index < count; index++) {
    const values = Float32Array.from({ length: size }, () => random.normal());
    const shape = [1, ...model.itemShape];
    const bytes = new Uint8Array(values.buffer);
    const { data } = await session.run(bytes, shape);
    cases.push({ shape, bytes, expected: Float32Array.from(data) });
  }
  await session.release();
  for (const [index, { expected }] of cases.entries()) {
    const before = cases[index - 1]?.expected;
    if (before?.every((value, at) => Math.abs(value - expected[at]!) < 1e-4))
      throw new Error(`samples ${index - 1} and ${index} answer alike`);
  }
  return cases;
}

/** The requests of these cases for one model, deadline and key. */
export function samplesOf(
  cases: readonly Case[],
  of: { model: SampleModel; timeoutMs?: number; class?: JobClass; apiKey?: string },
): Sample[] {
  const parameters = {
    ...(of.timeoutMs !== undefined && { timeout: Math.round(of.timeoutMs * 1000) }),
    ...(of.class && { priority: jobClasses.indexOf(of.class) + 1 }),
  };
  return cases.map(({ shape, bytes, expected }) => {
    const inputs = [{ name: "input", datatype: "FP32" as const, shape: [...shape], bytes }];
    const binary = (): Buffer => {
      const body = encodeInferRequest({ inputs, binary: true, parameters });
      return httpRequest({ ...of, parts: body.parts, headerLength: body.headerLength! });
    };
    const requests = {
      http: once(binary),
      grpc: once(() => grpcRequest({ message: grpcMessage(of, { shape, bytes }), apiKey: of.apiKey })),
      json: once(() => jobRequest(of, { shape, bytes })),
      mcp: once(() => toolRequest(of, { shape, bytes })),
    };
    return { requests, expected };
  });
}

function once<Value>(make: () => Value): () => Value {
  let made: Value | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

function grpcMessage(of: { model: SampleModel; timeoutMs?: number }, input: { shape: readonly number[]; bytes: Uint8Array }): Buffer {
  return modelInfer.requestSerialize({
    model_name: of.model.name,
    inputs: [{ name: "input", datatype: "FP32", shape: input.shape }],
    raw_input_contents: [input.bytes],
    ...(of.timeoutMs !== undefined && { parameters: { timeout: { int64_param: String(Math.round(of.timeoutMs * 1000)) } } }),
  });
}

function httpRequest(of: { model: SampleModel; apiKey?: string; parts: readonly Uint8Array[]; headerLength: number }): Buffer {
  const length = of.parts.reduce((sum, part) => sum + part.length, 0);
  const head = [
    `POST /v2/models/${of.model.name}/infer HTTP/1.1`,
    "host: 127.0.0.1",
    ...(of.apiKey === undefined ? [] : [`authorization: Bearer ${of.apiKey}`]),
    "content-type: application/octet-stream",
    `content-length: ${length}`,
    `inference-header-content-length: ${of.headerLength}`,
    "",
    "",
  ].join("\r\n");
  return Buffer.concat([Buffer.from(head), ...of.parts]);
}
