/** Whether an answer is the right one: its values against those of a direct run. */

import { decodeInferResponse } from "@switchyard/protocol";
import { inferenceService, methodOf } from "../../support/grpc-client.ts";
import type { Answer } from "./connection.ts";

const tolerance = 1e-5;

/** Throws when a value is off. */
export function checkValues(answer: Answer, expected: Float32Array): void {
  const bytes = Uint8Array.from(firstOutput(answer));
  const values = new Float32Array(bytes.buffer);
  if (values.length !== expected.length) throw new Error(`${values.length} values instead of ${expected.length}`);
  for (let at = 0; at < values.length; at++) {
    const far = Math.abs(values[at]! - expected[at]!);
    if (!(far <= tolerance)) throw new Error(`value ${at} is ${values[at]}, a direct run gives ${expected[at]}`);
  }
}

function firstOutput({ wire, body, headerLength }: Answer): Uint8Array {
  if (wire === "grpc") return methodOf(inferenceService, "ModelInfer").responseDeserialize(body).raw_output_contents[0];
  return decodeInferResponse({ body, headerLength }).outputs[0]!.bytes;
}
