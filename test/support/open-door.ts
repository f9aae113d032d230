/** An HTTP door on a free loopback port over the fake job service, and raw sockets to speak to it without a client's manners. */

import { connect } from "node:net";
import type { TestContext } from "node:test";
import type { HostView, QueueTally, TensorSignature } from "@switchyard/protocol";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { openAccess } from "../../coordinator/src/application/access.ts";
import { DeadLetters } from "../../coordinator/src/application/dead-letters.ts";
import { DurableJobs } from "../../coordinator/src/application/durable-jobs.ts";
import { StatisticsOfVersions } from "../../coordinator/src/application/version-statistics.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { bodyBudget, type DoorParts, type HttpConfig } from "../../coordinator/src/doors/door-context.ts";
import { createHttpServer, type HttpServer } from "../../coordinator/src/doors/http-server.ts";
import { TurnWait } from "../../coordinator/src/doors/turn-wait.ts";
import type { LogFields } from "../../coordinator/src/ports/log.ts";
import type { ModelRegistry } from "../../coordinator/src/ports/model-registry.ts";
import { FakeJobService, fakeModels } from "./fake-job-service.ts";
import { memoryDrains, memoryOverview } from "./memory-figures.ts";

const image: TensorSignature = { name: "image", datatype: "FP32", shape: [-1, 4] };
const scores: TensorSignature = { name: "scores", datatype: "FP32", shape: [-1, 3] };

export interface OpenDoor {
  url: string;
  port: number;
  /** To open another door on the same. */
  parts: DoorParts;
  jobs: FakeJobService;
  models: ModelRegistry;
  /** What was counted, by queue tag. */
  tallies: Map<string, QueueTally>;
  server: HttpServer;
  logged: { event: string; fields: LogFields | undefined }[];
  metricsText(): Promise<string>;
  drain(): void;
  /** Sends bytes as they are and answers all that came until the peer closed or `until` was seen. */
  raw(request: string | Buffer, until?: RegExp): Promise<string>;
}

type Replaceable =
  | "access"
  | "blobs"
  | "clock"
  | "consoleFolder"
  | "deadLetters"
  | "tools"
  | "drains"
  | "jobs"
  | "models"
  | "overview"
  | "secret"
  | "siblings"
  | "tracing";
type MoreParts = Partial<Pick<DoorParts, Replaceable>>;

/** What a door is made of, over the fake job service. */
export function fakeDoorParts(config: Partial<HttpConfig> = {}, more: MoreParts = {}) {
  const models = fakeModels([
    { model: "tiny", version: 1, signature: { inputs: [image], outputs: [scores] }, labels: { scores: ["zero", "one", "two"] } },
    { model: "tiny", version: 2, signature: { inputs: [image], outputs: [scores] } },
    { model: "pair", version: 1, signature: { inputs: [image, { ...image, name: "second" }], outputs: [scores] } },
    { model: "broken", version: 1, signature: { inputs: [], outputs: [] }, failure: "the graph ends early" },
  ]);
  const jobs = new FakeJobService(models);
  const logged: OpenDoor["logged"] = [];
  const log = (event: string, fields?: LogFields): void => void logged.push({ event, fields });
  const tallies = new Map<string, QueueTally>();
  const statistics = { read: async (tags: readonly string[]) => new Map([...tallies].filter(([tag]) => tags.includes(tag))) };
  const metrics = prometheusMetrics({ version: "1.2.3", processMetrics: false });
  let draining = false;
  const registry = { list: () => hosts, matching: () => 1 };
  const turns = new TurnWait(systemClock);
  const parts: DoorParts = {
    jobs,
    deadLetters: new DeadLetters({ jobs, durable: new DurableJobs(undefined), store: noInputs }),
    statistics: new StatisticsOfVersions({ statistics, models, clock: { sleep: async () => {} } }),
    models,
    hosts: registry,
    drains: memoryDrains(),
    overview: memoryOverview({ hosts: registry, models }),
    access: openAccess,
    bodies: bodyBudget({ maxBodyBytes: 1_000_000, ...config }),
    config: { maxBodyBytes: 1_000_000, corsOrigins: [], resultTtlMs: 3_600_000, ...config },
    clock: systemClock,
    turns,
    metrics,
    log: { info: log, warn: log, error: log },
    leaving: () => draining,
    draining: () => draining,
    version: "1.2.3",
    ...more,
  };
  const drain = (): void => {
    draining = true;
  };
  return { parts, jobs, models, tallies, logged, metrics, turns, drain };
}

export async function openDoor(test: TestContext, config: Partial<HttpConfig> = {}, more: MoreParts = {}): Promise<OpenDoor> {
  const { drain, jobs, logged, metrics, models, parts, tallies, turns } = fakeDoorParts(config, more);
  const server = createHttpServer(parts);
  const { port } = await server.listen({ host: "127.0.0.1", port: 0 });
  test.after(async () => {
    await server.close();
    turns.stop();
  });
  return {
    url: `http://127.0.0.1:${port}`,
    parts,
    port,
    jobs,
    models,
    tallies,
    server,
    logged,
    metricsText: () => metrics.text(),
    drain,
    raw: (request, until) => speak(port, request, until),
  };
}

/** The fake service keeps no inputs. */
const noInputs = {
  boundKey: async () => undefined,
  discard: async () => false,
  inputs: async () => undefined,
  inputsKept: async () => new Set<string>(),
  watch: async () => undefined,
};

const hosts: HostView[] = [
  {
    id: "host-1",
    incarnation: "abc",
    state: "ready",
    device: "cpu/2",
    providers: ["cpu"],
    gpus: [],
    frameworks: ["onnx"],
    cores: 2,
    memory_mb: 1024,
    labels: {},
    warm: ["tiny@2"],
    version: "1.2.3",
    heartbeat_age_ms: 5,
    registered_at: "2026-01-01T00:00:00.000Z",
  },
];

function speak(port: number, request: string | Buffer, until: RegExp | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let came = "";
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => {
      came += text;
      if (until?.test(came)) socket.destroy();
    });
    socket.on("close", () => resolve(came));
    socket.on("error", reject);
    socket.write(request);
  });
}

export function floats(...values: number[]): Buffer {
  return Buffer.from(new Float32Array(values).buffer);
}

/** The smallest right request, as an object. */
export function tinyRequest(extra: Record<string, unknown> = {}): Record<string, unknown> {
  return { inputs: [{ name: "image", datatype: "FP32", shape: [1, 4], data: [1, 2, 3, 4] }], ...extra };
}

export function tinyScores() {
  return [{ name: "scores", datatype: "FP32" as const, shape: [1, 3], bytes: new Uint8Array(floats(0.25, 0.5, 0.125)) }];
}
