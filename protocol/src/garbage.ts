/** A collection that V8 would not make by itself in time. It offers that under a flag (node-flags.ts); without it this does nothing. */

type Collect = (how: { type: "major"; flavor: "last-resort" }) => void;

const collect = (globalThis as { gc?: Collect }).gc;

/**
 * All of this thread's garbage, and the pages it lay on go back to the system: some 0.1 s in which the thread does nothing else, so only before
 * it serves anybody. Reading the modules of a process leaves about as much as it then needs, and nothing would collect that while it idles.
 */
export const giveBackMemory = (): void => collect?.({ type: "major", flavor: "last-resort" });
