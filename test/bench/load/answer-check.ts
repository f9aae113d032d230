/** Whether an answer is the right one: its values against those of a direct run. */

import { decodeInferResponse } from "@switchyard/protocol";
import { inferenceService, methodOf } from "../../support/grpc-client.ts";
import { providers } from "../systems/direct-session.ts";
import type { Answer } from "./connection.ts";

const tolerance = 1e-5;
/** Of the largest value, where a GPU answers: it multiplies in TF32, which has 11 bits. */
const share = providers.every((name) => name === "cpu") ? 0 : 2e-2;

/** Throws when a value is off. */
export function checkValues(answer: Answer, expected: Float32Array): void {
  const values = firstOutput(answer);
  if (values.length !== expected.length) throw new Error(`${values.length} values instead of ${expected.length}`);
  const allowed = share === 0 ? tolerance : share * expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (let at = 0; at < values.length; at++) {
    const far = Math.abs(values[at]! - expected[at]!);
    if (!(far <= allowed)) throw new Error(`value ${at} is ${values[at]}, a direct run gives ${expected[at]}`);
  }
}

function firstOutput({ wire, body, headerLength }: Answer): Float32Array {
  switch (wire) {
    case "grpc":
      return floats(methodOf(inferenceService, "ModelInfer").responseDeserialize(body).raw_output_contents[0]);
    case "http":
      return floats(decodeInferResponse({ body, headerLength }).outputs[0]!.bytes);
    case "json":
      return Float32Array.from(parsed(body).result.outputs[0].data);
    case "mcp":
      return Float32Array.from((Object.values(parsed(body).result.structuredContent.outputs)[0] as number[][]).flat());
  }
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(bytes).buffer);
}

// biome-ignore lint/suspicious/noExplicitAny: what is not there throws, and that is the check
function parsed(body: Buffer): any {
  return JSON.parse(body.toString("utf8"));
}
