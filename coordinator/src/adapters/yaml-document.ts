/** The only file of this package that knows the YAML library. */

import { isNode, LineCounter, parseDocument } from "yaml";

export type YamlDocument =
  | {
      value: unknown;
      /** The line of what stands at a path, or of the nearest thing around it. */
      lineOf: (path: readonly PropertyKey[]) => number;
    }
  | { problem: string };

/** Reads one YAML document. `problem` is the first fault with its line and column. */
export function readYaml(text: string): YamlDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: true, lineCounter: lines });
  const [fault] = document.errors;
  // The library adds a drawing of the place below the first line.
  if (fault) return { problem: `not valid YAML: ${fault.message.split("\n")[0]!.replace(/:$/, "")}` };
  const lineOf = (path: readonly PropertyKey[]): number => {
    for (let length = path.length; length >= 0; length--) {
      const node = document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
    }
    return 1;
  };
  try {
    return { value: document.toJS(), lineOf };
  } catch (error) {
    return { problem: `not valid YAML: ${(error as Error).message}` };
  }
}
