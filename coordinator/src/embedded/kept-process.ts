/**
 * Keeps one process running: starts it, starts it again when it dies (0.25 s later, doubling to 5 s), and gives up after ten deaths in
 * a minute. Stopping asks first and kills what does not listen.
 */

import type { Clock } from "../clock.ts";

export interface RunningProcess {
  pid: number;
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Sends a signal; nothing happens if it has ended. */
  signal(name: NodeJS.Signals): void;
}

export interface KeptProcessOptions {
  name: string;
  start(): Promise<RunningProcess>;
  clock: Clock;
  /** A death that was not asked for; `nextMs` until the next start. */
  onDeath?(death: { name: string; why: string; nextMs: number }): void;
  /** Ten deaths in a minute. Nothing is started any more. */
  onGivenUp(name: string, why: string): void;
}

const shortestMs = 250;
const longestMs = 5_000;
const windowMs = 60_000;
const mostDeaths = 10;

export class KeptProcess {
  readonly #options: KeptProcessOptions;
  readonly #stopping = new AbortController();
  #running: RunningProcess | undefined;
  #loop: Promise<void> | undefined;

  constructor(options: KeptProcessOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** Undefined while it does not run. */
  get pid(): number | undefined {
    return this.#running?.pid || undefined;
  }

  /** Resolves when it runs for the first time; throws if that first start fails. */
  async start(): Promise<void> {
    this.#running = await this.#options.start();
    this.#loop = this.#keep();
  }

  async #keep(): Promise<void> {
    const { clock, name, onDeath, onGivenUp } = this.#options;
    let deaths: number[] = [];
    while (!this.#stopping.signal.aborted) {
      const why = await this.#ended();
      this.#running = undefined;
      if (this.#stopping.signal.aborted) return;
      const nowMs = clock.monotonicMs();
      deaths = [...deaths.filter((atMs) => nowMs - atMs < windowMs), nowMs];
      if (deaths.length >= mostDeaths) return onGivenUp(name, why);
      const nextMs = Math.min(shortestMs * 2 ** (deaths.length - 1), longestMs);
      onDeath?.({ name, why, nextMs });
      await clock.sleep(nextMs, this.#stopping.signal);
      if (this.#stopping.signal.aborted) return;
      this.#running = await this.#options.start().catch((error: Error) => failedStart(error));
      if (this.#stopping.signal.aborted) this.signal("SIGTERM"); // stop() came while it started and had nobody to tell
    }
    await this.#ended();
  }

  async #ended(): Promise<string> {
    if (this.#running === undefined) return "it was not started";
    try {
      const { code, signal } = await this.#running.exited;
      return signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`;
    } catch (error) {
      return (error as Error).message;
    }
  }

  /** Asks it to end, kills it after `graceMs`, and resolves when it is gone. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping.abort();
    const kill = this.#options.clock.after(graceMs, () => this.signal("SIGKILL"));
    this.signal("SIGTERM");
    await this.#loop;
    kill();
  }

  signal(name: NodeJS.Signals): void {
    this.#running?.signal(name);
  }
}

function failedStart(error: Error): RunningProcess {
  const exited = Promise.reject(error);
  exited.catch(() => {}); // read later
  return { pid: 0, exited, signal() {} };
}
