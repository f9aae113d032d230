/** `models_search`: which models there are, what they take and answer, and which tools run them. */

import { mayUse } from "../../application/caller.ts";
import type { ModelStatus } from "../../ports/model-registry.ts";
import { argumentCheck } from "./argument-check.ts";
import { servedVersion, toolNameOf } from "./model-tools.ts";
import { resultOf } from "./tensor-results.ts";
import { takesImage, typeOf } from "./tensor-schemas.ts";
import { schemaOf, type ToolHandler } from "./tool.ts";

const usualLimit = 20;
const mostLimit = 100;
const mostLabels = 100;

const properties = {
  query: { type: "string", description: "part of a model's, input's, output's or class's name; default: all models" },
  limit: { type: "integer", minimum: 1, maximum: mostLimit },
};
const check = argumentCheck(schemaOf(properties, []));

const tensors = { type: "object", additionalProperties: { type: "string" }, description: "datatype and shape by name; -1: any length" };

export const modelsSearchTool: ToolHandler = {
  definition: {
    name: "models_search",
    title: "Find models",
    description: "Lists the models of the cluster with their inputs and outputs. Call it before infer, unless you know the model.",
    inputSchema: schemaOf(properties, []),
    outputSchema: {
      type: "object",
      properties: {
        models: {
          type: "array",
          items: {
            type: "object",
            properties: {
              model: { type: "string" },
              version: { type: "integer" },
              versions: { type: "array", items: { type: "integer" } },
              state: { type: "string" },
              inputs: tensors,
              outputs: tensors,
              takes_image: { type: "boolean" },
              classes: { type: "object" },
              tool: { type: "string" },
            },
            required: ["model", "version", "state", "inputs", "outputs"],
          },
        },
        total: { type: "integer" },
      },
      required: ["models", "total"],
    },
    annotations: { title: "Find models", readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  },
  scopes: ["submit", "read", "operate"],
  async call({ args, caller, context: { models } }) {
    check(args);
    const query = (args.query as string | undefined)?.trim().toLowerCase() ?? "";
    const limit = (args.limit as number | undefined) ?? usualLimit;
    const byModel = Map.groupBy(
      models.list().filter(({ version }) => mayUse(caller, version.model)),
      ({ version }) => version.model,
    );
    const found: Record<string, unknown>[] = [];
    let total = 0;
    for (const [model, versions] of [...byModel].sort(([one], [other]) => (one < other ? -1 : 1))) {
      const status = servedVersion(models, model) ?? versions.at(-1)!;
      if (query !== "" && !wordsOf(status).some((word) => word.toLowerCase().includes(query))) continue;
      total += 1;
      if (found.length < limit) found.push(shown(status, versions));
    }
    return resultOf({ models: found, total });
  },
};

function wordsOf({ version: { labels = {}, model, signature } }: ModelStatus): string[] {
  const tensors = [...signature.inputs, ...signature.outputs].map(({ name }) => name);
  return [model, ...tensors, ...Object.values(labels).flat()];
}

function shown({ reason, state, version }: ModelStatus, versions: readonly ModelStatus[]): Record<string, unknown> {
  const { labels, model, signature } = version;
  const types = (list: typeof signature.inputs) => Object.fromEntries(list.map((tensor) => [tensor.name, typeOf(tensor)]));
  return {
    model,
    version: version.version,
    versions: versions.map((one) => one.version.version),
    state,
    ...(reason !== undefined && { reason }),
    inputs: types(signature.inputs),
    outputs: types(signature.outputs),
    ...(takesImage(version) && { takes_image: true }),
    ...(labels && { classes: Object.fromEntries(Object.entries(labels).map(([name, list]) => [name, list.slice(0, mostLabels)])) }),
    tool: toolNameOf(model),
  };
}
