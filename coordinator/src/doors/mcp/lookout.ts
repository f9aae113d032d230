/** Looks again and again for as long as somebody wants to know. A look that meets a store that is away is left out: the next one sees. */

import { SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../../clock.ts";
import type { Log } from "../../ports/log.ts";

interface Parts {
  clock: Pick<Clock, "sleep">;
  log: Pick<Log, "error">;
  everyMs: number;
  look: () => Promise<void>;
}

export class Lookout {
  readonly #parts: Parts;
  #stop: AbortController | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The first look comes when one period has passed. Does nothing while it looks already. */
  start(): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, everyMs, log, look } = this.#parts;
    for (;;) {
      await clock.sleep(everyMs, signal);
      if (signal.aborted) return;
      try {
        await look();
      } catch (error) {
        if (error instanceof SwitchyardError) continue;
        log.error("mcp_look_failed", { error: error instanceof Error ? error.stack : String(error) });
      }
    }
  }
}
