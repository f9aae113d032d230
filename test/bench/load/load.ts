/** The bench's end of the load process. */

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { FromLoad, LoadFigures, LoadOrder, StreamsOrder, ToLoad } from "./figures.ts";
import type { SampleModel } from "./samples.ts";
import type { StreamFigures } from "./stream-tally.ts";

export class LoadProcess {
  readonly #child: ChildProcess;
  #answer: PromiseWithResolvers<FromLoad> | undefined;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./load-process.ts", import.meta.url)), { execArgv: [] });
    this.#child.on("message", (message: FromLoad) => this.#answer?.resolve(message));
    this.#child.on("exit", (code) => this.#answer?.reject(new Error(`the load process ended with ${code}`)));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async #ask(message: ToLoad): Promise<FromLoad> {
    this.#answer = Promise.withResolvers<FromLoad>();
    this.#child.send(message);
    const answer = await this.#answer.promise;
    if (answer.kind === "failed") throw new Error(answer.message);
    return answer;
  }

  /** Computes requests, with the key if there is one, and expected answers. */
  async prepare(model: SampleModel, samples: number, apiKey?: string): Promise<void> {
    await this.#ask({ kind: "prepare", model, samples, ...(apiKey !== undefined && { apiKey }) });
  }

  async start(order: LoadOrder): Promise<void> {
    await this.#ask({ kind: "start", order });
  }

  /** Jobs of several streams, until finishStreams(). */
  async startStreams(order: StreamsOrder): Promise<void> {
    await this.#ask({ kind: "stream", order });
  }

  /** From here on answers count. */
  async mark(): Promise<void> {
    await this.#ask({ kind: "mark" });
  }

  /** Ends the load; throws what made a client fail. */
  async finish(): Promise<LoadFigures> {
    const answer = await this.#ask({ kind: "finish" });
    if (answer.kind !== "figures") throw new Error("the load process gave no figures");
    return answer.figures;
  }

  /** Ends the streams and waits for every job; throws when an answer was wrong. */
  async finishStreams(): Promise<Record<string, StreamFigures>> {
    const answer = await this.#ask({ kind: "finish" });
    if (answer.kind !== "streamed") throw new Error("the load process has no streams");
    return answer.figures;
  }

  close(): void {
    this.#child.disconnect();
  }
}
