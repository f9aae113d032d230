/**
 * Bodies of inference requests: how large they may be in which form. JSON is parsed in one go, while everybody else waits, so it has a
 * limit of its own; tensors in binary form cost no parsing.
 */

import { SwitchyardError } from "@switchyard/protocol";
import type { FastifyRequest } from "fastify";
import type { DoorContext } from "./door-context.ts";
import { readBody } from "./request-body.ts";
import { headerLengthOf } from "./request-options.ts";

const advice = "Send large tensors in binary form, after a JSON part whose length the header Inference-Header-Content-Length tells";

/**
 * Reads the body and hands it to `decode` with the length of its JSON part (undefined: all of it; 0: none). The body counts against the
 * budget until `decode` returns. Throws what `readBody` and `decode` throw.
 */
export async function withInferenceBody<T>(
  context: DoorContext,
  request: FastifyRequest,
  decode: (body: Buffer, headerLength: number | undefined) => T,
): Promise<T> {
  const { maxBodyBytes, maxJsonBytes } = context.config;
  const headerLength = headerLengthOf(request.headers);
  const isLong = headerLength !== undefined && headerLength > maxJsonBytes;
  const isJson = headerLength === undefined && maxJsonBytes < maxBodyBytes;
  const held = context.bodies.body();
  try {
    // a body that is shorter than it says that its JSON part is says something wrong, and is not too large
    const limit = isJson || isLong ? { maxBytes: Math.min(maxJsonBytes, maxBodyBytes), advice } : { maxBytes: maxBodyBytes };
    return decode(await readBody(request.raw, { ...limit, held }), headerLength);
  } catch (error) {
    const isTooLong = isLong && error instanceof SwitchyardError && error.code === "payload_too_large";
    throw isTooLong ? tooLong(headerLength, maxJsonBytes) : error;
  } finally {
    held.leave();
  }
}

function tooLong(headerLength: number, maxJsonBytes: number): SwitchyardError {
  const detail = `The JSON part of the body must not exceed maximum size: at most ${maxJsonBytes} bytes, got ${headerLength}. ${advice}`;
  const field = { pointer: "Inference-Header-Content-Length", expected: `at most ${maxJsonBytes}`, got: String(headerLength) };
  return new SwitchyardError("payload_too_large", detail, { fields: [field] });
}
