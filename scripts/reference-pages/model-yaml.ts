/** docs/reference/model-yaml.md: the keys of a model's configuration, from their schema. */

import { z } from "zod";
import { modelConfigSchema } from "../../protocol/src/schemas/model-config.ts";
import { code, generatedPage, markdownTable } from "./markdown-table.ts";

interface JsonSchema {
  type?: string;
  properties?: Record<string, JsonSchema>;
  additionalProperties?: JsonSchema | boolean;
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  enum?: string[];
  const?: unknown;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
  minLength?: number;
}

const notYet = "Checked, but not acted on yet: ";

const meanings: Readonly<Record<string, string>> = {
  max_batch_items: "Most items in one run, and in one job. Allows batching along the first axis without asking the warm-up's proof.",
  batch_axis: "The axis along which items are stacked.",
  max_delay_ms: "How long a job may wait for others to fill its batch, where its deadline allows that. Without it a run waits for nothing.",
  default_timeout_ms: "Deadline of jobs whose client names none.",
  class: "Class of jobs whose client names none.",
  isolation: `${notYet}whether runs happen in a process of their own.`,
  "require.providers": "Execution providers of which a host must have one. The model runs with the first that it has, and with no other.",
  "require.gpu_memory_mb": "Memory that one of a host's GPUs must have.",
  "require.frameworks": "Frameworks that a host must have: `onnx`, or those of the servers behind it.",
  "require.labels": "Labels that a host must carry.",
  "prefer[].label": "A label, as `name=value`, of hosts that are asked before others.",
  "prefer[].weight": "How much it counts. A host's weights are added up, and those with the highest sum take the jobs while they live.",
  pin: "Whether it is loaded on a host ahead of any request, and stays there.",
  min_replicas: "On how many hosts it is loaded at least, ahead of any request.",
  max_replicas: "On how many hosts it is loaded at most.",
  "cache.ttl_s":
    "Equal requests are answered without a run for so many seconds after it ([caching](../caching.md)). Without `cache` each request runs.",
  "cache.bytes": "Most bytes of answers that are kept, for each version of the model; 67108864 (64 MiB) unless given.",
  "cache.shared": "Whether tenants share answers; false unless given.",
  "outputs.<name>.labels": "Text file in the model's folder with one class name a line, for classification and the command line.",
  "image.size": "Height and width that `--image` scales a picture to.",
  "image.layout": "Order of the axes of the tensor that a picture becomes. FLAT: one row of grey values.",
  "image.scale": "Factor for grey or colour values 0 to 255.",
  "image.mean": "Subtracted after scaling, one number or one per channel.",
  "image.std": "Divisor after that, one number or one per channel.",
  "image.invert": "Whether dark and bright change places: `bright-border` does so for pictures with a bright edge.",
};

function leaves(schema: JsonSchema, path: string): [path: string, schema: JsonSchema][] {
  const below = (name: string): string => (path === "" ? name : `${path}.${name}`);
  if (schema.properties !== undefined) return Object.entries(schema.properties).flatMap(([name, value]) => leaves(value, below(name)));
  if (typeof schema.additionalProperties === "object" && schema.additionalProperties.properties !== undefined) {
    return leaves(schema.additionalProperties, below("<name>"));
  }
  if (schema.items?.properties !== undefined) return leaves(schema.items, `${path}[]`);
  return [[path, schema]];
}

function inWords(schema: JsonSchema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.join(", ");
  if (schema.prefixItems !== undefined) return `a list of ${schema.prefixItems.length}: ${inWords(schema.prefixItems[0]!)}`;
  if (schema.type === "array") return `a list: ${inWords(schema.items ?? {})}`;
  if (schema.type === "object") return "a mapping of texts";
  if (schema.type === "string") return "text";
  if (schema.type === "boolean") return "true or false";
  const kind = schema.type === "integer" ? "whole number" : "number";
  const isOpen = schema.maximum === undefined || schema.maximum >= Number.MAX_SAFE_INTEGER;
  const most = isOpen ? "" : `, at most ${schema.maximum}`;
  const least =
    schema.exclusiveMinimum !== undefined
      ? `, above ${schema.exclusiveMinimum}`
      : schema.minimum === undefined || schema.minimum < -1e15
        ? ""
        : `, at least ${schema.minimum}`;
  return `${kind}${least}${most}`;
}

export function modelYamlPage(): string {
  const found = leaves(z.toJSONSchema(modelConfigSchema) as JsonSchema, "");
  const rows = found.map(([path, schema]) => {
    const meaning = meanings[path];
    if (meaning === undefined) throw new Error(`scripts/reference-pages/model-yaml.ts says nothing about ${path}`);
    return [code(path), inWords(schema), meaning];
  });
  const gone = Object.keys(meanings).filter((path) => !found.some(([known]) => known === path));
  if (gone.length > 0) throw new Error(`model.yaml has no ${gone.join(", ")} any more`);
  const text = `
\`<repository>/<model>/model.yaml\` is optional, and so is every key in it. An unknown key is an error that names file and path; a model with an
error in its file is listed as failed and disturbs no other. The file is read again when it changes.

${markdownTable(["key", "value", "meaning"], rows)}

Without \`max_batch_items\` a model is batched only when the warm-up has shown that items run together give the same outputs as items run
apart; \`GET /v1/models\` says what was found and why.`;
  return generatedPage("model.yaml", "protocol/src/schemas/model-config.ts", text);
}
