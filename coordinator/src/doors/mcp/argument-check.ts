/** Whether a call's arguments are what its tool takes. The library's validator looks at their form; tensors are read by the codec that all doors have. */

import { fromJsonSchema, type JsonSchemaType } from "@modelcontextprotocol/server";
import { SwitchyardError } from "@switchyard/protocol";
import { badRequest } from "../request-options.ts";

type Arguments = Readonly<Record<string, unknown>>;

/**
 * A check that throws `invalid_request`. It is compiled once: schemas are those of tools, not of models, or the validator's memory would grow
 * with every model that there ever was.
 */
export function argumentCheck(schema: { properties: Record<string, unknown> }): (given: Arguments) => void {
  const known = Object.keys(schema.properties);
  let validate: ReturnType<typeof fromJsonSchema>["~standard"]["validate"] | undefined;
  return (given) => {
    for (const name of Object.keys(given)) {
      if (!known.includes(name))
        throw badRequest(`/${name.slice(0, 64)}`, `absent: this tool takes ${known.join(", ") || "no arguments"}`, given[name]);
    }
    validate ??= fromJsonSchema(schema as unknown as JsonSchemaType)["~standard"].validate;
    const checked = validate(given);
    if (checked instanceof Promise) throw new Error("a schema that must be waited for");
    if (checked.issues === undefined) return;
    const fault = checked.issues.map(({ message }) => message.replaceAll(/\bdata\b/g, "arguments")).join("; ");
    throw new SwitchyardError("invalid_request", `These arguments do not fit the tool's inputSchema: ${fault}`, {
      fields: [{ pointer: "arguments", expected: "what the tool's inputSchema says", got: fault.slice(0, 512) }],
    });
  };
}
