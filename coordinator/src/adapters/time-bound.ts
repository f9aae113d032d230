/** Runs what a stranger's patterns and schemas decide: a regular expression that would go on for hours is stopped, and holds nobody up. */

import { createContext, Script } from "node:vm";

const context = createContext({ run: undefined }) as { run: (() => unknown) | undefined };
const script = new Script("run()");

/** Throws an Error with code ERR_SCRIPT_EXECUTION_TIMEOUT after `ms`. What `run` throws comes out as it is. */
export function withinMs<T>(ms: number, run: () => T): T {
  const outer = context.run;
  context.run = run;
  try {
    return script.runInContext(context, { timeout: ms }) as T;
  } finally {
    context.run = outer;
  }
}
