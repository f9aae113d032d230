/** Who may import whom. ARCHITECTURE.md shows the first two tables; tests hold the sources to all three, and the page to the tables. */

/** Which of our packages a package may import. */
export const mayImportPackages: Record<string, readonly string[]> = {
  protocol: [],
  coordinator: ["@switchyard/protocol"],
  worker: ["@switchyard/protocol"],
  "client-sdk": ["@switchyard/protocol"],
  console: ["switchyard", "@switchyard/protocol"],
};

/** Which folders a room of the coordinator may import. Rooms that are not listed put the others together and may import all. */
export const rooms: Record<string, readonly string[]> = {
  doors: ["doors", "application", "ports", "clock.ts"],
  application: ["application", "scheduler", "ports", "clock.ts"],
  adapters: ["adapters", "scheduler", "ports", "clock.ts"],
  ports: ["ports"],
  scheduler: ["scheduler"],
};

/** Where a foreign library may be loaded, per package: one file, or one room where the library is the room's whole trade. */
export const libraries: Record<string, Record<string, readonly string[]>> = {
  protocol: { protobufjs: ["src/grpc/", "src/onnx/"], zod: ["src/schemas/", "src/api-keys.ts"] },
  coordinator: {
    "@aws-sdk/client-s3": ["src/adapters/s3-bucket.ts"],
    "@fastify/static": ["src/doors/console.ts"],
    "@grpc/grpc-js": ["src/doors/grpc-"],
    "@grpc/proto-loader": ["src/doors/grpc-codecs.ts"],
    "@grpc/reflection": ["src/doors/grpc-reflection.ts"],
    "@modelcontextprotocol/client": ["src/adapters/mcp-client.ts"],
    "@modelcontextprotocol/node": ["src/doors/mcp/"],
    "@modelcontextprotocol/server": ["src/doors/mcp/"],
    protobufjs: ["src/doors/grpc-reflection.ts"],
    "@opentelemetry/api": ["src/adapters/opentelemetry-tracing.ts"],
    "@opentelemetry/exporter-trace-otlp-proto": ["src/adapters/opentelemetry-tracing.ts"],
    "@opentelemetry/resources": ["src/adapters/opentelemetry-tracing.ts"],
    "@opentelemetry/sdk-trace": ["src/adapters/opentelemetry-tracing.ts"],
    bullmq: ["src/adapters/bullmq-tickets.ts"],
    fastify: ["src/doors/"],
    ioredis: ["src/adapters/redis-client.ts"],
    pino: ["src/adapters/pino-log.ts"],
    pngjs: ["src/doors/mcp/png-pixels.ts"],
    "prom-client": ["src/adapters/prometheus-registry.ts"],
    yaml: ["src/adapters/yaml-document.ts"],
  },
  worker: {
    "@opentelemetry/api": ["src/opentelemetry-traces.ts"],
    "@opentelemetry/exporter-trace-otlp-proto": ["src/opentelemetry-traces.ts"],
    "@opentelemetry/resources": ["src/opentelemetry-traces.ts"],
    "@opentelemetry/sdk-trace": ["src/opentelemetry-traces.ts"],
    bullmq: ["src/intake/bullmq-tickets.ts"],
    ioredis: ["src/redis-client.ts"],
    "onnxruntime-node": ["src/runtime/onnx-runtime.ts"],
    pino: ["src/pino-log.ts"],
    "prom-client": ["src/host-metrics.ts"],
  },
  "client-sdk": {
    "@modelcontextprotocol/client": ["src/cli/mcp-bridge.ts"],
    "@opentelemetry/api": ["src/opentelemetry.ts"],
    "cli-progress": ["src/cli/progress.ts"],
    commander: ["src/cli/"],
    "eventsource-parser": ["src/job-events.ts"],
    pngjs: ["src/cli/png-pixels.ts"],
    yaml: ["src/cli/key-file.ts"],
  },
  console: {
    "@preact/signals": ["src/"],
    "@tanstack/virtual-core": ["src/virtual-rows.ts"],
    "eventsource-parser": ["src/api.ts"],
    preact: ["src/"],
    switchyard: ["src/try-it.tsx"],
    uplot: ["src/chart.tsx"],
  },
};
