/** The description of /v1 for tools, made from the same schemas; only routes that exist. */

import { aliasPattern, durabilities, errors, jobClasses, maxIdChars, maxTimeoutMs } from "@switchyard/protocol";
import {
  aliasTargetSchema,
  aliasViewSchema,
  batchLineSchema,
  bulkViewSchema,
  callerViewSchema,
  deadLetterViewSchema,
  estimatesViewSchema,
  hostViewSchema,
  inputsViewSchema,
  jobLogViewSchema,
  jobViewSchema,
  listSchema,
  maxJobAttempts,
  modelViewSchema,
  overviewViewSchema,
  problemSchema,
  queueViewSchema,
  requeuedViewSchema,
  requirementSchema,
  sizesViewSchema,
  tenantViewSchema,
  timelineViewSchema,
  toolAuditViewSchema,
  toolCallViewSchema,
  toolConsentViewSchema,
  toolServerDetailsSchema,
  toolServerViewSchema,
  toolViewSchema,
} from "@switchyard/protocol/schemas";
import { z } from "zod";
import { deadLetterFilters, jobFilters } from "./job-filters.ts";
import { type RouteAccess, routeAccess } from "./route-access.ts";

const schemas = {
  Job: jobViewSchema,
  Jobs: listSchema(jobViewSchema),
  BatchLine: batchLineSchema,
  DeadLetter: deadLetterViewSchema,
  DeadLetters: listSchema(deadLetterViewSchema),
  Requeued: requeuedViewSchema,
  Host: hostViewSchema,
  Hosts: listSchema(hostViewSchema),
  Model: modelViewSchema,
  Models: listSchema(modelViewSchema),
  Alias: aliasViewSchema,
  Aliases: listSchema(aliasViewSchema),
  AliasTarget: aliasTargetSchema,
  Estimates: estimatesViewSchema,
  Tenant: tenantViewSchema,
  Tenants: listSchema(tenantViewSchema),
  Caller: callerViewSchema,
  Overview: overviewViewSchema,
  Queues: listSchema(queueViewSchema),
  Timeline: timelineViewSchema,
  JobLog: jobLogViewSchema,
  Sizes: sizesViewSchema,
  Inputs: inputsViewSchema,
  Bulk: bulkViewSchema,
  ToolServers: listSchema(toolServerViewSchema),
  ToolServer: toolServerDetailsSchema,
  Tool: toolViewSchema,
  ToolCalled: toolCallViewSchema,
  ToolConsent: toolConsentViewSchema,
  ToolAudit: listSchema(toolAuditViewSchema),
  Problem: problemSchema,
};

const tensor = {
  type: "object",
  required: ["name", "datatype", "shape"],
  properties: {
    name: { type: "string" },
    datatype: { type: "string" },
    shape: { type: "array", items: { type: "integer", minimum: 0 } },
    data: { type: "array" },
    parameters: { type: "object" },
  },
};

const jobRequest = {
  type: "object",
  additionalProperties: false,
  required: ["model", "inputs"],
  properties: {
    model: { type: "string" },
    version: {
      anyOf: [
        { type: "integer", minimum: 1 },
        { type: "string", pattern: aliasPattern.source },
      ],
    },
    id: { type: "string", maxLength: maxIdChars },
    parameters: { type: "object" },
    inputs: { type: "array", items: tensor },
    outputs: {
      type: "array",
      items: { type: "object", required: ["name"], properties: { name: { type: "string" }, parameters: { type: "object" } } },
    },
    timeout_ms: { type: "integer", minimum: 1, maximum: maxTimeoutMs },
    class: { enum: jobClasses },
    max_attempts: { type: "integer", minimum: 1, maximum: maxJobAttempts },
    durability: { enum: durabilities },
    tags: { type: "object", additionalProperties: { type: "string" } },
    require: withoutDialect(z.toJSONSchema(requirementSchema)),
    wait_for_host: { type: "boolean" },
    idempotency_key: { type: "string", maxLength: 255 },
  },
};

const toolCall = {
  type: "object",
  additionalProperties: false,
  properties: {
    arguments: { type: "object" },
    bindings: {
      type: "object",
      additionalProperties: {
        type: "object",
        additionalProperties: false,
        required: ["job", "pointer"],
        properties: { job: { type: "string" }, pointer: { type: "string" } },
      },
    },
    timeout_ms: { type: "integer", minimum: 1 },
  },
};

const toolDecision = {
  type: "object",
  additionalProperties: false,
  required: ["decision"],
  properties: { decision: { enum: ["allow", "deny"] }, pin: { type: "string", pattern: "^[0-9a-f]{64}$" } },
};

function ref(name: string) {
  return { $ref: `#/components/schemas/${name}` };
}

function json(description: string, schema: unknown) {
  return { description, content: { "application/json": { schema } } };
}

const problem = {
  description: `A failure; code is one of ${Object.keys(errors).join(", ")}`,
  content: { "application/problem+json": { schema: ref("Problem") } },
};

const parameter = (name: string, place: "path" | "query" | "header", schema: object = { type: "string" }) => ({
  name,
  in: place,
  required: place === "path",
  schema,
});

const waitQuery = parameter("wait", "query", { type: "integer", minimum: 0, maximum: 60 });

function get(summary: string, schema: string, parameters: unknown[] = []) {
  return { summary, parameters, responses: { 200: json(summary, ref(schema)), default: problem } };
}

let made: { version: string; document: unknown } | undefined;

export function openApiDocument(version: string): unknown {
  if (made?.version !== version) made = { version, document: makeDocument(version) };
  return made.document;
}

function makeDocument(version: string): unknown {
  const components = Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, withoutDialect(z.toJSONSchema(schema))]));
  const id = parameter("id", "path");
  const listFilters = jobFilters.map((name) => parameter(name, "query"));
  const deadFilters = deadLetterFilters.map((name) => parameter(name, "query"));
  const dryRun = parameter("dry_run", "query", { type: "boolean" });
  const model = parameter("model", "path");
  const alias = parameter("alias", "path");
  const number = parameter("version", "path");
  const tool = [parameter("server", "path"), parameter("tool", "path")];
  const file = { required: true, content: { "application/octet-stream": { schema: { type: "string", format: "binary" } } } };
  return {
    openapi: "3.1.0",
    info: { title: "Switchyard", version },
    paths: secured({
      "/v1/jobs": {
        get: get("Jobs, newest first", "Jobs", listFilters),
        post: {
          summary: "Submit a job",
          parameters: ["Prefer", "Idempotency-Key", "X-Request-Timeout-Ms", "Inference-Header-Content-Length"].map((name) =>
            parameter(name, "header"),
          ),
          requestBody: {
            required: true,
            content: {
              "application/json": { schema: ref("JobRequest") },
              "application/octet-stream": { schema: { type: "string", format: "binary" } },
            },
          },
          responses: {
            200: json("The job has ended within the wait", ref("Job")),
            202: json("The job is admitted", ref("Job")),
            default: problem,
          },
        },
      },
      "/v1/jobs:batch": {
        post: {
          summary: "Submit many jobs, one a line",
          parameters: ["Prefer", "Idempotency-Key", "X-Request-Timeout-Ms"].map((name) => parameter(name, "header")),
          requestBody: { required: true, content: { "application/x-ndjson": { schema: ref("JobRequest") } } },
          responses: {
            200: {
              description: "What became of each line, one a line; schemas are those of a line",
              content: { "application/x-ndjson": { schema: ref("BatchLine") } },
            },
            default: problem,
          },
        },
      },
      "/v1/jobs/{id}": {
        get: get("One job", "Job", [id, waitQuery, parameter("If-None-Match", "header")]),
        delete: {
          summary: "Cancel the job",
          parameters: [id],
          responses: { 200: json("The job is cancelled", ref("Job")), default: problem },
        },
      },
      "/v1/jobs/{id}/result": {
        get: {
          summary: "The result, as an Open Inference Protocol answer",
          parameters: [id, waitQuery, parameter("Accept", "header")],
          responses: {
            200: {
              description: "The outputs",
              content: { "application/json": { schema: { type: "object" } }, "application/octet-stream": {} },
            },
            default: problem,
          },
        },
      },
      "/v1/jobs/{id}/timeline": { get: get("What happened to the job, in order", "Timeline", [id]) },
      "/v1/jobs/{id}/log": { get: get("What coordinators and hosts say of the job, line by line", "JobLog", [id]) },
      "/v1/jobs/{id}/sizes": { get: get("How large the job's inputs and outputs are, before they are asked for", "Sizes", [id]) },
      "/v1/jobs/{id}/inputs": { get: get("What the job was given, while it is kept", "Inputs", [id]) },
      "/v1/jobs:cancel": {
        post: {
          summary: "Cancel one page of the jobs that a filter names; a dry run only counts them",
          parameters: [...listFilters, dryRun],
          responses: { 200: json("How many", ref("Bulk")), default: problem },
        },
      },
      "/v1/jobs/{id}/retry": {
        post: {
          summary: "Submit a job that failed again, as a new job; again and again the same one",
          parameters: [id],
          responses: { 202: json("The new job is admitted", ref("Job")), default: problem },
        },
      },
      "/v1/dead-letters": { get: get("Dead letters, newest first", "DeadLetters", deadFilters) },
      "/v1/dead-letters:requeue": {
        post: {
          summary: "Submit one page of dead letters again; a dry run only counts them",
          parameters: [...deadFilters, dryRun],
          responses: {
            200: json("What became of each; when the store is away or full, links.next is this page again", ref("Requeued")),
            default: problem,
          },
        },
      },
      "/v1/dead-letters/{id}": {
        delete: {
          summary: "Let a dead letter's inputs go",
          parameters: [id],
          responses: { 200: json("It is no dead letter any more", ref("DeadLetter")), default: problem },
        },
      },
      "/v1/jobs/{id}/events": {
        get: {
          summary: "The job's states as server-sent events",
          parameters: [id, parameter("Last-Event-ID", "header")],
          responses: {
            200: { description: "One event per state, data is the job", content: { "text/event-stream": {} } },
            default: problem,
          },
        },
      },
      "/v1/hosts": { get: get("Registered hosts", "Hosts") },
      "/v1/hosts/{id}": { get: get("One host", "Host", [id]) },
      "/v1/hosts/{id}/drain": {
        post: {
          summary: "Let the host finish what it has and take no more jobs; it follows within a second",
          parameters: [id],
          responses: { 202: json("The host as it is now", ref("Host")), default: problem },
        },
        delete: {
          summary: "Let the host take jobs again",
          parameters: [id],
          responses: { 202: json("The host as it is now; of one that is not registered only its id", ref("Host")), default: problem },
        },
      },
      "/v1/caller": { get: get("Who asks: the tenant and the scopes of the key", "Caller") },
      "/v1/overview": { get: get("Figures of all coordinators: now, the last minute, the last five minutes", "Overview") },
      "/v1/overview/events": {
        get: {
          summary: "The overview as server-sent events, with what is new of its series",
          parameters: [parameter("Last-Event-ID", "header")],
          responses: {
            200: { description: "One event whenever something changed, data is the overview", content: { "text/event-stream": {} } },
            default: problem,
          },
        },
      },
      "/v1/queues": { get: get("Model versions that have jobs, had some in the last minute, or keep dead letters", "Queues") },
      "/v1/models": { get: get("Model versions", "Models") },
      "/v1/models/{model}": { get: get("The versions of one model", "Models", [model]) },
      "/v1/models/{model}/versions/{version}": {
        get: get("One model version", "Model", [model, number]),
        put: {
          summary: "Upload a version: the body is the ONNX file",
          parameters: [model, number, parameter("Repr-Digest", "header"), parameter("Content-Digest", "header")],
          requestBody: file,
          responses: {
            200: { description: "It was there with the same content" },
            201: { description: "It is a version now" },
            default: problem,
          },
        },
        delete: {
          summary: "Remove an uploaded version that nothing stands on",
          parameters: [model, number],
          responses: { 204: { description: "Removed" }, default: problem },
        },
      },
      "/v1/models/{model}/versions/{version}/files/{name}": {
        put: {
          summary: "Send a file with weights ahead of the version's graph",
          parameters: [model, number, parameter("name", "path"), parameter("Repr-Digest", "header")],
          requestBody: file,
          responses: { 201: { description: "It is kept for an hour" }, default: problem },
        },
      },
      "/v1/models/{model}/config": {
        put: {
          summary: "Configure a model without a folder; the body is what its model.yaml would be",
          parameters: [model],
          requestBody: { required: true, content: { "application/yaml": {}, "application/json": {} } },
          responses: { 200: { description: "The configuration" }, default: problem },
        },
        delete: {
          summary: "Remove the configuration",
          parameters: [model],
          responses: { 204: { description: "Removed" }, default: problem },
        },
      },
      "/v1/models/{model}/aliases": { get: get("The aliases of one model", "Aliases", [model]) },
      "/v1/models/{model}/aliases/{alias}": {
        get: get("One alias", "Alias", [model, alias]),
        put: {
          summary: "Set what an alias stands for",
          parameters: [model, alias],
          requestBody: { required: true, content: { "application/json": { schema: ref("AliasTarget") } } },
          responses: { 200: json("The alias", ref("Alias")), default: problem },
        },
        delete: {
          summary: "Remove an alias",
          parameters: [model, alias],
          responses: { 204: { description: "Removed" }, default: problem },
        },
      },
      "/v1/models/{model}/aliases/{alias}/promote": {
        post: {
          summary: "Give the alias to one version, once a host has it loaded",
          parameters: [model, alias],
          requestBody: {
            required: true,
            content: {
              "application/json": {
                schema: { type: "object", properties: { version: { type: "integer", minimum: 1 }, from: { type: "string" } } },
              },
            },
          },
          responses: { 200: json("The alias", ref("Alias")), default: problem },
        },
      },
      "/v1/models/{model}/aliases/{alias}/rollback": {
        post: {
          summary: "Make the alias stand for what it stood for before",
          parameters: [model, alias],
          responses: { 200: json("The alias", ref("Alias")), default: problem },
        },
      },
      "/v1/models/{model}/estimates": {
        get: get("What runs take of the version that most requests without one get", "Estimates", [model]),
      },
      "/v1/models/{model}/versions/{version}/estimates": {
        get: get("What runs of one model version take", "Estimates", [model, parameter("version", "path")]),
      },
      "/v1/mcp/servers": { get: get("MCP servers whose tools this cluster uses, as this coordinator sees them", "ToolServers") },
      "/v1/mcp/servers/{server}": { get: get("One MCP server with its tools", "ToolServer", [parameter("server", "path")]) },
      "/v1/mcp/servers/{server}/tools/{tool}": {
        get: get("One tool, and what would become of a call", "Tool", tool),
        post: {
          summary: "Call the tool; also a tool that says that it failed is answered with 200",
          parameters: tool,
          requestBody: { required: true, content: { "application/json": { schema: toolCall } } },
          responses: { 200: json("The tool's answer", ref("ToolCalled")), default: problem },
        },
      },
      "/v1/mcp/servers/{server}/tools/{tool}/consent": {
        get: get("What was decided about the tool", "ToolConsent", tool),
        put: {
          summary: "Consent to the tool as it is defined now, or refuse it",
          parameters: tool,
          requestBody: { required: true, content: { "application/json": { schema: toolDecision } } },
          responses: { 200: json("What holds now", ref("ToolConsent")), default: problem },
        },
        delete: {
          summary: "Forget what was decided: the configuration holds again",
          parameters: tool,
          responses: { 204: { description: "Forgotten" }, default: problem },
        },
      },
      "/v1/mcp/audit": {
        get: get("Tool calls and consents, newest first; about 10,000 are kept", "ToolAudit", [
          parameter("limit", "query", { type: "integer", minimum: 1, maximum: 200 }),
          parameter("cursor", "query"),
        ]),
      },
      "/v1/tenants": { get: get("Tenants, with the ids of their keys and what waits", "Tenants") },
    }),
    components: { schemas: { ...components, JobRequest: jobRequest }, securitySchemes: { apiKey } },
  };
}

const apiKey = {
  type: "http",
  scheme: "bearer",
  description:
    "An API key made by `switchyard keys new`. Each operation lists the scopes of which the key needs one. Without a key file none is asked for.",
};

/** Says at each operation which scopes open it, from the table that the routes are guarded by. */
function secured(paths: Record<string, Record<string, object>>): Record<string, Record<string, object>> {
  const operations = (url: string, methods: Record<string, object>) =>
    Object.entries(methods).map(([method, operation]) => {
      const route = url
        .replaceAll(":", "::")
        .replace("/files/{name}", "/files/*")
        .replace(/\{(\w+)\}/g, ":$1");
      const access = routeAccess[`${method.toUpperCase()} ${route}`];
      return [method, { ...operation, security: requirements(access) }];
    });
  return Object.fromEntries(Object.entries(paths).map(([url, methods]) => [url, Object.fromEntries(operations(url, methods))]));
}

/** Entries are alternatives. */
function requirements(access: RouteAccess | undefined): object[] {
  return typeof access === "object" ? access.map((scope) => ({ apiKey: [scope] })) : [];
}

function withoutDialect(schema: object): object {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => key !== "$schema"));
}
