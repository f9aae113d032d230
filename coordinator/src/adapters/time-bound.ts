/** Runs what a stranger's patterns and schemas decide: a regular expression that would go on for hours is stopped, and holds nobody up. */

import { createContext, Script } from "node:vm";

const context = createContext({ run: undefined }) as { run: (() => unknown) | undefined };
const script = new Script("run()");

/** On a machine that is busy with others. */
const mostTries = 8;

/**
 * Throws an Error with code ERR_SCRIPT_EXECUTION_TIMEOUT after `ms`. What `run` throws comes out as it is. What was stopped while this thread had
 * hardly run is tried again: then the machine was busy, and that says nothing about the schema.
 */
export function withinMs<T>(ms: number, run: () => T): T {
  const outer = context.run;
  context.run = run;
  const startedMs = usedMs();
  try {
    for (let tries = 1; ; tries++) {
      try {
        return script.runInContext(context, { timeout: ms }) as T;
      } catch (error) {
        const isLate = (error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT";
        if (!isLate || tries === mostTries || usedMs() - startedMs >= 0.8 * ms) throw error;
      }
    }
  } finally {
    context.run = outer;
  }
}

function usedMs(): number {
  const { system, user } = process.threadCpuUsage();
  return (system + user) / 1_000;
}
