/** Entry of the load, in a process of its own: closed-loop clients, the same for every system, or streams. */

import { checkValues } from "./answer-check.ts";
import type { Answer, Connection, Wire } from "./connection.ts";
import type { FromLoad, LoadFigures, LoadOrder, ToLoad } from "./figures.ts";
import { GrpcConnection } from "./grpc-connection.ts";
import { HttpConnection } from "./http-connection.ts";
import { makeCases, type Sample, samplesOf } from "./samples.ts";
import { Streams } from "./streams.ts";

let samples: Sample[] = [];
let run: Load | Streams | undefined;

const wordOfSuccess: Partial<Record<Wire, string>> = { json: '"state":"succeeded"', mcp: '"structuredContent":' };

function tell(message: FromLoad): void {
  process.send?.(message);
}

class Load {
  readonly #order: LoadOrder;
  #connections: Connection[] = [];
  #loops: Promise<void>[] = [];
  #stopping = false;
  #measuring = false;
  #failure: Error | undefined;
  #bodyBytes: number | undefined;
  #count = 0;
  #verified = 0;
  #lastDoneMs = 0;
  #firstMs = 0;
  #latencies: number[] = [];

  constructor(order: LoadOrder) {
    this.#order = order;
  }

  async start(): Promise<void> {
    const { host, port, clients, wire } = this.#order;
    const open = (): Promise<Connection> => (wire === "grpc" ? GrpcConnection.open(host, port) : HttpConnection.open(host, port, wire));
    this.#connections = await Promise.all(Array.from({ length: clients }, open));
    this.#loops = this.#connections.map((connection, index) => this.#loop(connection, index));
  }

  #loop(connection: Connection, index: number): Promise<void> {
    const { clients, wire = "http" } = this.#order;
    const { promise, resolve: end } = Promise.withResolvers<void>();
    const fail = (error: Error): void => {
      this.#failure ??= error;
      this.#stopping = true;
      end();
    };
    let next = index;
    const ask = (): void => {
      const sample = samples[next % samples.length]!;
      next += clients;
      const startedMs = performance.now();
      const resolve = (answer: Answer): void => {
        const doneMs = performance.now();
        try {
          this.#check(answer, sample);
        } catch (error) {
          fail(error as Error);
        }
        this.#lastDoneMs = doneMs;
        if (this.#measuring) this.#latencies.push(doneMs - startedMs);
        if (this.#stopping) end();
        else ask();
      };
      connection.send(sample.requests[wire](), { resolve, reject: fail });
    };
    ask();
    return promise;
  }

  /**
   * All binary answers of a cell have one size, so every answer is checked by status and size, and every so-manieth by its values. Of those in JSON
   * every one has the word that stands in no failure.
   */
  #check(answer: Answer, sample: Sample): void {
    const { body, wire } = answer;
    if (answer.status !== 200) throw new Error(`status ${answer.status}: ${body.toString("utf8").slice(0, 300)}`);
    const word = wordOfSuccess[wire];
    if (word === undefined) this.#bodyBytes ??= body.length;
    if (word === undefined ? body.length !== this.#bodyBytes : !body.includes(word))
      throw new Error(`not the answer that was asked for (${body.length} bytes): ${body.toString("utf8").slice(0, 300)}`);
    if (this.#count++ % this.#order.verifyEvery !== 0) return;
    checkValues(answer, sample.expected);
    this.#verified++;
  }

  mark(): void {
    this.#firstMs = this.#lastDoneMs || performance.now();
    this.#latencies = [];
    this.#measuring = true;
  }

  async finish(): Promise<LoadFigures> {
    this.#measuring = false;
    const seconds = (this.#lastDoneMs - this.#firstMs) / 1000;
    this.#stopping = true;
    await Promise.all(this.#loops);
    for (const connection of this.#connections) connection.close();
    if (this.#failure !== undefined) throw this.#failure;
    const sorted = Float64Array.from(this.#latencies).sort();
    if (sorted.length === 0) throw new Error("no answer came during the measurement");
    const at = (share: number): number => Number(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!.toFixed(4));
    return {
      jobs: sorted.length,
      seconds,
      jobsPerSecond: sorted.length / seconds,
      verified: this.#verified,
      latencyMs: { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1) },
    };
  }
}

async function obey(message: ToLoad): Promise<void> {
  switch (message.kind) {
    case "prepare":
      samples = samplesOf(await makeCases(message.model, message.samples), message);
      return tell({ kind: "ready" });
    case "start":
      run = new Load(message.order);
      await run.start();
      return tell({ kind: "ready" });
    case "stream":
      run = new Streams(message.order);
      await run.start();
      return tell({ kind: "ready" });
    case "mark":
      run?.mark();
      return tell({ kind: "ready" });
    case "finish": {
      if (run instanceof Streams) return tell({ kind: "streamed", figures: await run.finish() });
      return tell({ kind: "figures", figures: await run!.finish() });
    }
  }
}

process.on("message", (message: ToLoad) => {
  obey(message).catch((error: unknown) => tell({ kind: "failed", message: (error as Error).message }));
});
process.on("disconnect", () => process.exit(0));
