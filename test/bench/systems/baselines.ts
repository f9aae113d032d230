/** The systems to compare with, each the best effort we could make of its idea. */

import { benchCores, keepBenchPair } from "./bench-cores.ts";
import { startBenchRedis } from "./bench-redis.ts";
import type { InputForm } from "./bullmq-wire.ts";
import { startProgram } from "./program.ts";
import type { System } from "./system.ts";

/** A run of a tiny model is over before a second thread has woken up. */
const threads = "1";

export const inProcess: System = {
  id: "a",
  title: "in-process, no queue",
  async start(model) {
    const server = await startProgram<{ port: number }>({
      file: new URL("./in-process-server.ts", import.meta.url),
      args: [model.path, threads],
    });
    return { port: server.said.port, roles: { door: server.pid }, mustRun: server.mustRun, stop: server.stop };
  },
};

export interface BullmqVariant {
  form: InputForm;
  pipelining: "pipelined" | "plain";
  /** The door and Redis keep to a core each while both are busy, as Switchyard's do, where there are two. */
  cores?: "bound";
}

const bound: readonly BullmqVariant[] = [
  { form: "base64", pipelining: "pipelined", cores: "bound" },
  { form: "key", pipelining: "pipelined", cores: "bound" },
];

export const bullmqVariants: readonly BullmqVariant[] = [
  { form: "base64", pipelining: "plain" },
  { form: "base64", pipelining: "pipelined" },
  { form: "latin1", pipelining: "pipelined" },
  { form: "key", pipelining: "pipelined" },
  ...(benchCores() === undefined ? [] : bound),
];

const words = ({ cores, form, pipelining }: BullmqVariant): string[] => [form, pipelining, ...(cores === undefined ? [] : [cores])];
export const variantName = (variant: BullmqVariant): string => words(variant).join(", ");
/** As it is given on the command line. */
export const variantFlag = (variant: BullmqVariant): string => words(variant).join("-");

export function oneJobPerInference(variant: BullmqVariant): System {
  return {
    id: "b",
    title: `one BullMQ job per inference (${variantName(variant)})`,
    async start(model) {
      const cores = variant.cores && benchCores();
      const redis = await startBenchRedis(cores && { childCores: cores });
      const wire = [redis.url, variant.form, variant.pipelining];
      const worker = await startProgram({
        file: new URL("./bullmq-worker.ts", import.meta.url),
        args: [...wire, model.path, threads],
      });
      const door = await startProgram<{ port: number }>({ file: new URL("./bullmq-door.ts", import.meta.url), args: wire });
      const leave = cores ? keepBenchPair({ coordinator: door.pid, redis: redis.pid }) : () => {};
      return {
        port: door.said.port,
        roles: { door: door.pid, redis: redis.pid, worker: worker.pid },
        redisCommands: redis.commands,
        mustRun() {
          door.mustRun();
          worker.mustRun();
        },
        async stop() {
          leave();
          await door.stop();
          await worker.stop();
          await redis.stop();
        },
      };
    },
  };
}
