/** The requests that every system gets, and what a direct run of the model answers to each. */

import { encodeInferRequest } from "@switchyard/protocol";
import { seededRandom } from "../../../scripts/seeded-random.ts";
import { openSession } from "../systems/direct-session.ts";

export interface Sample {
  /** A whole HTTP/1.1 request, ready to be written. */
  request: Buffer;
  expected: Float32Array;
}

export interface SampleModel {
  name: string;
  path: string;
  itemShape: readonly number[];
}

/** Throws when two samples have the same answer: then a mixed-up answer would go unnoticed. */
export async function makeSamples(model: SampleModel, count: number, host: string): Promise<Sample[]> {
  const session = await openSession(model.path, 1);
  const random = seededRandom(11);
  const size = model.itemShape.reduce((left, right) => left * right, 1);
  const samples: Sample[] = [];
  for (let index = 0; index < count; index++) {
    const values = Float32Array.from({ length: size }, () => random.normal());
    const shape = [1, ...model.itemShape];
    const bytes = new Uint8Array(values.buffer);
    const body = encodeInferRequest({ inputs: [{ name: "input", datatype: "FP32", shape, bytes }], binary: true });
    const { data } = await session.run(bytes, shape);
    samples.push({ request: httpRequest(model.name, host, body.parts, body.headerLength!), expected: Float32Array.from(data) });
  }
  await session.release();
  for (const [index, { expected }] of samples.entries()) {
    const before = samples[index - 1]?.expected;
    if (before?.every((value, at) => Math.abs(value - expected[at]!) < 1e-4))
      throw new Error(`samples ${index - 1} and ${index} answer alike`);
  }
  return samples;
}

function httpRequest(model: string, host: string, parts: readonly Uint8Array[], headerLength: number): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = [
    `POST /v2/models/${model}/infer HTTP/1.1`,
    `host: ${host}`,
    "content-type: application/octet-stream",
    `content-length: ${length}`,
    `inference-header-content-length: ${headerLength}`,
    "",
    "",
  ].join("\r\n");
  return Buffer.concat([Buffer.from(head), ...parts]);
}
