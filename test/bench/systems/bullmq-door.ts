/** Entry of the door of "one BullMQ job per inference": one Queue.add per request, answers by publish and subscribe. */

import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { type InputForm, inputKey, type JobData, queueName, replyChannel } from "./bullmq-wire.ts";
import { openDoor } from "./oip-door.ts";
import { tellReady } from "./program.ts";

const [url, form, pipelining] = process.argv.slice(2) as [string, InputForm, string];
const connection = new Redis(url, { maxRetriesPerRequest: null, enableAutoPipelining: pipelining === "pipelined" });
const queue = new Queue<JobData>(queueName, {
  connection,
  defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  streams: { events: { maxLen: 10 } },
});
await queue.waitUntilReady();

const waiting = new Map<number, (bytes: Uint8Array) => void>();
const replies = new Redis(url);
replies.on("messageBuffer", (_channel: Buffer, message: Buffer) => {
  const request = message.readUInt32LE(0);
  waiting.get(request)?.(message.subarray(4));
  waiting.delete(request);
});
await replies.subscribe(replyChannel);

let last = 0;
const port = await openDoor(async (input) => {
  const request = ++last;
  const bytes = Buffer.from(input.bytes.buffer, input.bytes.byteOffset, input.bytes.byteLength);
  const reply = new Promise<Uint8Array>((resolve) => waiting.set(request, resolve));
  const data: JobData = { request, shape: input.shape };
  if (form === "key") void connection.set(inputKey(request), bytes, "EX", 60);
  else data.input = bytes.toString(form);
  await queue.add("infer", data);
  const answer = await reply;
  return { bytes: answer, shape: [1, answer.byteLength / 4] };
});
tellReady({ port });
