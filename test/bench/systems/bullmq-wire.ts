/** How an input travels with its BullMQ job, and how answers come back. Variants are measured; the best one is compared with. */

export const inputForms = ["base64", "latin1", "key"] as const;
export type InputForm = (typeof inputForms)[number];

export const queueName = "inference";

export interface JobData {
  /** Number of the request at its door. */
  request: number;
  shape: readonly number[];
  /** The tensor's bytes as text; absent when they lie in a key of their own. */
  input?: string;
}

export const inputKey = (request: number): string => `bench:input:${request}`;
export const replyChannel = "bench:replies";

/** uint32 request number, then the output's bytes. */
export function encodeReply(request: number, data: Float32Array): Buffer {
  const reply = Buffer.allocUnsafe(4 + data.byteLength);
  reply.writeUInt32LE(request, 0);
  reply.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 4);
  return reply;
}
