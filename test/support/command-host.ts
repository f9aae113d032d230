/**
 * Runs commands of the command line one after the other in one process, for tests that need many: starting Node and loading the command takes
 * longer than what most of them do. What main.ts adds, the process itself, is met by the tests that start it.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

export interface CommandOutcome {
  code: number | null;
  out: string;
  err: string;
}

export interface CommandHost {
  /** Waits for those that were asked for before. `input` is its standard input. */
  run(args: readonly string[], how?: { env?: Record<string, string>; input?: string | Uint8Array }): Promise<CommandOutcome>;
  stop(): Promise<void>;
}

const program = fileURLToPath(new URL("command-host-program.ts", import.meta.url));

/** `env` is what every command finds beside this process' own. */
export function startCommandHost(env: Record<string, string>): CommandHost {
  const child: ChildProcess = spawn(process.execPath, [program], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe", "ipc"], // no terminal
    serialization: "advanced",
  });
  child.stderr?.pipe(process.stderr);
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let last: Promise<unknown> = Promise.resolve();
  const ask = (question: object): Promise<CommandOutcome> =>
    new Promise((resolve, reject) => {
      child.once("message", (outcome) => resolve(outcome as CommandOutcome));
      void ended.then(() => reject(new Error("the commands' process ended")));
      child.send(question);
    });
  return {
    run(args, how = {}) {
      const outcome = last.then(() => ask({ args, env: how.env ?? {}, input: how.input ?? "" }));
      last = outcome.catch(() => {});
      return outcome;
    },
    async stop() {
      child.disconnect();
      await ended;
    },
  };
}
