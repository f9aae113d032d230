/** The only file of this package that knows the YAML library. */

import { parseDocument } from "yaml";

export type YamlDocument = { value: unknown } | { problem: string };

/** Reads one YAML document. `problem` is the first fault with its line and column. */
export function readYaml(text: string): YamlDocument {
  const document = parseDocument(text, { prettyErrors: true });
  const [fault] = document.errors;
  // The library adds a drawing of the place below the first line.
  if (fault) return { problem: `not valid YAML: ${fault.message.split("\n")[0]!.replace(/:$/, "")}` };
  try {
    return { value: document.toJS() };
  } catch (error) {
    return { problem: `not valid YAML: ${(error as Error).message}` };
  }
}
