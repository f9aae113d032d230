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
  if (headerLength !== undefined && headerLength > maxJsonBytes) {
    request.raw.resume();
    const detail = `The JSON part of the body must not exceed maximum size: at most ${maxJsonBytes} bytes, got ${headerLength}. ${advice}`;
    const field = { pointer: "Inference-Header-Content-Length", expected: `at most ${maxJsonBytes}`, got: String(headerLength) };
    throw new SwitchyardError("payload_too_large", detail, { fields: [field] });
  }
  const held = context.bodies.body();
  try {
    const isJson = headerLength === undefined && maxJsonBytes < maxBodyBytes;
    const limit = isJson ? { maxBytes: maxJsonBytes, advice } : { maxBytes: maxBodyBytes };
    return decode(await readBody(request.raw, { ...limit, held }), headerLength);
  } finally {
    held.leave();
  }
}
