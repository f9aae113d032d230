/** A load in which everything happens that dashboards show: successes of every class and tenant, failures, retries, expiries, cancels, refusals. */

import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { type Answer, call, floats } from "../support/calls.ts";
import { GrpcClient } from "../support/grpc-client.ts";
import { type Repository, slowModel, slowRuns } from "../support/timed-models.ts";

const secrets = { red: "red-secret", blue: "blue-secret", operator: "operator-secret" } as const;
type Tenant = keyof typeof secrets;

export const operatorKey: string = secrets.operator;
const authorization = (tenant: Tenant): Record<string, string> => ({ authorization: `Bearer ${secrets[tenant]}` });

export async function writeKeyFile(file: string): Promise<void> {
  const scopes = { red: "submit, read", blue: "submit, read", operator: "submit, read, operate, admin" };
  const entries = Object.entries(secrets).map(([tenant, secret]) => {
    const digest = createHash("sha256").update(secret).digest("hex");
    return `- { id: ${tenant}, sha256: ${digest}, tenant: ${tenant}, weight: 1, scopes: [${scopes[tenant as Tenant]}] }`;
  });
  await writeFile(file, `${entries.join("\n")}\n`, { mode: 0o600 });
}

function adder(addend: number): GraphBuilder {
  const graph = new GraphBuilder({ name: "adder" });
  graph.input("x", "FP32", ["batch", 1]);
  graph.output("y", "FP32", ["batch", 1]);
  graph.node("Add", ["x", graph.weight("addend", [1], Float32Array.of(addend))], {}, "y");
  return graph;
}

/** `i` INT64 [1] → `y` FP32 [1], the element of that number of four: a run with another number fails. */
function chooser(): GraphBuilder {
  const graph = new GraphBuilder({ name: "chooser" });
  graph.input("i", "INT64", [1]);
  graph.output("y", "FP32", [1]);
  graph.node("Gather", [graph.weight("table", [4], Float32Array.of(1, 2, 3, 4)), "i"], { axis: { int: 0 } }, "y");
  return graph;
}

/** Variables of the workers that run them: `slow` is. */
export const loadWorkerEnv: Record<string, string> = slowRuns(200);

export async function addModels(models: Repository): Promise<void> {
  for (const version of [1, 2]) await models.add("light", adder(version), { version, settings: "max_batch_items: 8\n" });
  await models.add("cached", adder(5), { settings: "cache: { ttl_s: 60 }\n" });
  await models.add("reloaded", adder(7));
  await models.add("fails", chooser());
  await models.add("slow", slowModel(1));
  await models.add("nowhere", adder(6), { settings: "require: { labels: { floor: '9' } }\n" });
}

const x = (value: number) => [floats("x", [1, 1], [value])];

export interface LoadTarget {
  urls: readonly string[];
  grpc: string;
}

/** What came back, by what was asked, so that a test can see that it happened. */
export class Load {
  readonly statuses = new Map<string, number>();
  readonly #target: LoadTarget;
  readonly #stop = new AbortController();
  readonly #streams: Promise<void>[] = [];

  constructor(target: LoadTarget) {
    this.#target = target;
  }

  async #ask(
    what: string,
    path: string,
    body: unknown,
    how: { tenant?: Tenant; method?: "DELETE" | "PUT"; at?: number; wait?: true } = {},
  ): Promise<Answer> {
    const { at = 0, method, tenant = "red", wait } = how;
    const url = `${this.#target.urls[at % this.#target.urls.length]}${path}`;
    const headers = { ...authorization(tenant), ...(wait && { prefer: "wait=5" }) };
    const answer = await call(url, { headers, ...(body !== undefined && { body }), ...(method && { method }) });
    const key = `${what} ${answer.status}`;
    this.statuses.set(key, (this.statuses.get(key) ?? 0) + 1);
    return answer;
  }

  /** Streams that go on until `end`, and what is asked once. Resolves when that has been asked. */
  async begin(): Promise<void> {
    await this.#ask(
      "alias",
      "/v1/models/light/aliases/stable",
      { version: 1, shadow: { version: 2, share: 1 } },
      { tenant: "operator", method: "PUT" },
    );
    const classes = ["interactive", "standard", "batch"];
    this.#stream(4, async (turn) => {
      const tenant = turn % 3 === 0 ? "blue" : "red";
      const body = { model: "light", class: classes[turn % 3], inputs: x(turn) };
      await this.#ask("job", "/v1/jobs", body, { tenant, at: turn, wait: true });
      const version = turn % 2 === 0 ? "/versions/stable" : "";
      await this.#ask("infer", `/v2/models/light${version}/infer`, { inputs: x(turn) }, { tenant, at: turn });
      await this.#ask("cached", "/v2/models/cached/infer", { inputs: x(turn % 4) }, { tenant });
    });
    this.#stream(2, async (turn) => {
      await this.#ask("slow", "/v2/models/slow/infer", { inputs: [floats("x", [1], [turn])] }, { at: turn });
      await this.#ask("hopeless", "/v2/models/slow/infer", { inputs: [floats("x", [1], [1])], parameters: { timeout: 1_000 } });
    });
    this.#stream(1, async () => {
      const inputs = [{ name: "i", datatype: "INT64", shape: [1], data: [100] }];
      await this.#ask("fails", "/v1/jobs", { model: "fails", inputs, max_attempts: 2 }, { tenant: "blue", wait: true });
      await this.#ask("refused", "/v1/jobs", { model: "nowhere", inputs: x(1) }, { tenant: "blue" });
      const waits = { model: "nowhere", inputs: x(1), wait_for_host: true };
      await this.#ask("expires", "/v1/jobs", { ...waits, timeout_ms: 300 }, { wait: true });
      const { id } = (await this.#ask("waits", "/v1/jobs", { ...waits, timeout_ms: 60_000 })).json() as { id: string };
      await this.#ask("cancel", `/v1/jobs/${id}`, undefined, { method: "DELETE" });
    });
    this.#stream(1, async () => {
      for (const change of ["unload", "load"])
        await this.#ask(change, `/v2/repository/models/reloaded/${change}`, {}, { tenant: "operator" });
    });
    this.#stream(1, async (turn) => {
      await this.#ask("tool", "/v1/mcp/servers/results/tools/echo", { arguments: { text: String(turn) } }, { at: turn });
    });
    this.#stream(1, async (turn) => {
      using client = new GrpcClient(this.#target.grpc);
      const contents = { fp32_contents: [turn] };
      const inputs = [{ name: "x", datatype: "FP32", shape: [1, 1], contents }];
      const metadata = authorization("blue");
      const { code } = await client.call("ModelInfer", { model_name: "light", inputs }, { metadata, deadlineMs: 5_000 });
      this.statuses.set(`grpc ${code}`, (this.statuses.get(`grpc ${code}`) ?? 0) + 1);
    });
  }

  #stream(clients: number, turn: (number: number) => Promise<void>): void {
    for (let client = 0; client < clients; client++) this.#streams.push(this.#turns(client, clients, turn));
  }

  async #turns(first: number, step: number, turn: (number: number) => Promise<void>): Promise<void> {
    for (let number = first; !this.#stop.signal.aborted; number += step) {
      await turn(number);
      await new Promise((resolve) => setTimeout(resolve, 150)); // a load, not a measurement
    }
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#streams);
  }
}
