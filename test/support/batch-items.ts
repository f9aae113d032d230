/** A tiny model, a file of items for it, and what must be in the file of answers: each item once, with the right value. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { cliMain } from "./cluster.ts";

/** `x` FP32 [batch,1] → `y` FP32 [batch,1]: twice as much, and one. */
export function doublingModel(): GraphBuilder {
  const graph = new GraphBuilder({ name: "double" });
  graph.input("x", "FP32", ["batch", 1]);
  graph.output("y", "FP32", ["batch", 1]);
  const doubled = graph.node("Mul", ["x", graph.weight("two", [1], Float32Array.of(2))]);
  graph.node("Add", [doubled, graph.weight("one", [1], Float32Array.of(1))], {}, "y");
  return graph;
}

export async function writeItems(file: string, count: number, lineOf: (index: number) => string = itemLine): Promise<void> {
  const stream = createWriteStream(file);
  for (let index = 0; index < count; index++) if (!stream.write(`${lineOf(index)}\n`)) await once(stream, "drain");
  stream.end();
  await once(stream, "finish");
}

export function itemLine(index: number): string {
  return `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[${index}]}]}`;
}

export interface AnswersFound {
  succeeded: number;
  /** Codes by index. */
  failed: Map<number, string>;
}

/** Throws unless each item has one answer, and each that succeeded the right one. */
export async function checkAnswers(file: string, count: number): Promise<AnswersFound> {
  const seen = new Uint8Array(count);
  const found: AnswersFound = { succeeded: 0, failed: new Map() };
  for await (const line of createInterface({ input: createReadStream(file) })) {
    const { index, result, error } = JSON.parse(line);
    seen[index]!++;
    if (error !== undefined) found.failed.set(index, error.code);
    else {
      assert.equal(result.outputs[0].data[0], 2 * index + 1, line);
      found.succeeded++;
    }
  }
  const wrong = seen.findIndex((times) => times !== 1);
  assert.equal(wrong, -1, `item ${wrong} was answered ${seen[wrong]} times`);
  return found;
}

export interface Cli {
  child: ChildProcess;
  /** What it has said so far. */
  said(): string;
  ended: Promise<{ code: number | null; out: string; err: string }>;
}

export function startCli(url: string, args: readonly string[]): Cli {
  const env = { ...process.env, SWITCHYARD_URL: url, SWITCHYARD_API_KEY: "" };
  const child = spawn(process.execPath, [cliMain, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) =>
    child.once("close", (code) => resolve({ code, out, err })),
  );
  return { child, said: () => out + err, ended };
}
