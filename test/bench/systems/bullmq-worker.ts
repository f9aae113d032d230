/** Entry of the worker of "one BullMQ job per inference": BullMQ's own concurrency, one run per job. */

import { Worker } from "bullmq";
import { Redis } from "ioredis";
import { encodeReply, type InputForm, inputKey, type JobData, queueName, replyChannel } from "./bullmq-wire.ts";
import { openSession } from "./direct-session.ts";
import { tellReady } from "./program.ts";

const [url, form, pipelining, path, threads] = process.argv.slice(2) as [string, InputForm, string, string, string];
const options = { maxRetriesPerRequest: null, enableAutoPipelining: pipelining === "pipelined" };
const connection = new Redis(url, options);
const answers = new Redis(url, options);
const session = await openSession(path, Number(threads));

const worker = new Worker<JobData>(
  queueName,
  async (job) => {
    const { request, shape, input } = job.data;
    const bytes = input === undefined ? await answers.getdelBuffer(inputKey(request)) : Buffer.from(input, form as "base64");
    const { data } = await session.run(bytes!, shape);
    void answers.publish(replyChannel, encodeReply(request, data));
  },
  { connection, concurrency: 16, removeOnComplete: { count: 0 }, removeOnFail: { count: 0 } },
);
worker.on("error", (error) => process.stderr.write(`${error.message}\n`));
await worker.waitUntilReady();
tellReady({});
