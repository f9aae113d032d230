/** The only file of this package that knows the YAML library. */

import { isNode, LineCounter, parseDocument } from "yaml";

export type YamlDocument =
  | {
      value: unknown;
      /** The line of what stands at a path, or of the nearest thing around it. */
      lineOf: (path: readonly PropertyKey[]) => number;
    }
  | { problem: string };

/** More than any document of ours has: what looks through it calls itself for each level. */
const mostDepth = 64;

/** Reads one YAML document. `problem` is the first fault with its line and column, or that it is deeper than documents are. */
export function readYaml(text: string): YamlDocument {
  try {
    return read(text);
  } catch (error) {
    return { problem: error instanceof RangeError ? tooDeep : `not valid YAML: ${(error as Error).message}` };
  }
}

const tooDeep = `expected at most ${mostDepth} levels, and no alias inside of what it stands for`;

function read(text: string): YamlDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, { prettyErrors: true, lineCounter: lines });
  const [fault] = document.errors;
  // the library calls itself for each level, too, and found no end of them
  if (fault?.code === "RESOURCE_EXHAUSTION") return { problem: tooDeep };
  // The library adds a drawing of the place below the first line.
  if (fault) return { problem: `not valid YAML: ${fault.message.split("\n")[0]!.replace(/:$/, "")}` };
  const lineOf = (path: readonly PropertyKey[]): number => {
    for (let length = path.length; length >= 0; length--) {
      const node = document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
    }
    return 1;
  };
  // refuses documents whose aliases make them many times as large as they are written
  const value: unknown = document.toJS();
  return isDeeper(value, mostDepth, new Map()) ? { problem: tooDeep } : { value, lineOf };
}

/** Also of what stands within itself. `looked`: to how many levels each part was found to be no deeper than allowed, so that one with many aliases is looked at once. */
function isDeeper(value: unknown, levels: number, looked: Map<object, number>): boolean {
  if (typeof value !== "object" || value === null || (looked.get(value) ?? Number.POSITIVE_INFINITY) <= levels) return false;
  if (levels === 0 || Object.values(value).some((part) => isDeeper(part, levels - 1, looked))) return true;
  looked.set(value, levels);
  return false;
}
