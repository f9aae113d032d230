/**
 * Entry of the process that reads one graph, its standard input, and writes what it found: see graph-process.ts. It has no rights but to
 * read its own code, and no variables.
 */

import { fstatSync, readSync, writeSync } from "node:fs";
import { SwitchyardError } from "@switchyard/protocol/errors";
import { readGraph } from "@switchyard/protocol/onnx";

const file = 0;
const { size } = fstatSync(file);
const bytes = new Uint8Array(size);
for (let at = 0; at < size; ) {
  const count = readSync(file, bytes, at, size - at, at);
  if (count === 0) throw new Error("the file became shorter");
  at += count;
}

function found(): unknown {
  try {
    const { externalFiles, signature } = readGraph(bytes);
    return { signature, externalFiles };
  } catch (error) {
    if (error instanceof SwitchyardError) return { refusal: error.message };
    throw error;
  }
}

const answer = Buffer.from(JSON.stringify(found()));
for (let at = 0; at < answer.length; ) at += writeSync(1, answer, at);
