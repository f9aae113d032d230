import assert from "node:assert/strict";
import { test } from "node:test";
import { exposedTools } from "../../coordinator/src/application/exposed-tools.ts";
import { shownSchema } from "../../coordinator/src/application/shown-schemas.ts";
import type { JudgedTool, ToolConsentDesk } from "../../coordinator/src/application/tool-consent-desk.ts";
import type { ToolServers } from "../../coordinator/src/application/tool-servers.ts";
import { toToolView } from "../../coordinator/src/doors/tool-server-views.ts";

const sly = "read\u202e this\u0000\n now";
const clean = "read this now";

test("what is only for readers is cleaned and cut at every depth, and what a schema means stays", () => {
  const schema = {
    title: sly,
    $comment: sly,
    properties: {
      description: { type: "string", description: "x".repeat(5_000), const: { description: sly } },
      default: { description: sly, default: sly, enum: [sly], examples: [{ title: sly }] },
    },
    allOf: [{ description: sly, items: { title: sly } }],
    $defs: { title: { title: sly } },
    required: ["description"],
  };
  const before = structuredClone(schema);
  const shown = shownSchema(schema) as typeof schema;
  assert.deepEqual(schema, before, "the original is what values are checked by");
  assert.equal(shown.properties.description.description.length, 1_024);
  assert.deepEqual(
    { ...shown, properties: { ...shown.properties, description: { ...shown.properties.description, description: "" } } },
    {
      title: clean,
      $comment: clean,
      properties: {
        description: { type: "string", description: "", const: { description: sly } },
        default: { description: clean, default: sly, enum: [sly], examples: [{ title: sly }] },
      },
      allOf: [{ description: clean, items: { title: clean } }],
      $defs: { title: { title: clean } },
      required: ["description"],
    },
  );
});

test("tools are shown and offered on with such schemas and titles", async () => {
  const schema = { type: "object", properties: { x: { description: sly } } };
  const definition = { name: "t", inputSchema: schema, outputSchema: schema, annotations: { title: sly, readOnlyHint: true } };
  const judged = { definition, pin: "p", verdict: { decision: "allow", reason: "" } } as unknown as JudgedTool;
  const settings = { name: "s", expose: ["*"] };
  const servers = { all: () => [{ settings, tools: new Map([["t", {}]]) }] } as unknown as ToolServers;
  const desk = { judgeAll: async () => [judged] } as unknown as ToolConsentDesk;
  const wanted = { type: "object", properties: { x: { description: clean } } };
  const [offered] = await exposedTools({ servers, desk });
  assert.deepEqual(
    [offered?.inputSchema, offered?.outputSchema, offered?.annotations],
    [wanted, wanted, { title: clean, readOnlyHint: true }],
  );
  const view = toToolView(judged);
  assert.deepEqual([view.input_schema, view.output_schema, view.annotations], [wanted, wanted, { title: clean, readOnlyHint: true }]);
});
