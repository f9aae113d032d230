/**
 * Reads graphs in a process of their own, one for each: bounded memory, processor time and time altogether, no variables, no files but its own
 * code, and the graph as standard input. What it writes is checked like anything that comes from outside.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { open, realpath } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { type Datatype, elementBytes, SwitchyardError } from "@switchyard/protocol";
import { z } from "zod";
import type { Clock } from "../clock.ts";
import type { GraphInspector, InspectedGraph } from "../ports/graph-inspector.ts";
import { freeChild } from "./child-cores.ts";

const megabyte = 1024 * 1024;
/** Beside the file itself: the process, and what its code makes of the graph. */
const otherMemoryMb = 768;
const heapMb = 256;
const limitMs = 120_000;
const mostAnswerBytes = 8 * megabyte;

const tensors = z.array(
  z.strictObject({
    name: z.string(),
    datatype: z.enum(Object.keys(elementBytes) as [Datatype, ...Datatype[]]),
    shape: z.array(z.number().int().min(-1)),
    axes: z.array(z.string().nullable()).exactOptional(),
  }),
);

/** What the process may say: it has read bytes of somebody else's. */
const answerSchema = z.union([
  z.strictObject({ refusal: z.string() }),
  z.strictObject({ signature: z.strictObject({ inputs: tensors, outputs: tensors }), externalFiles: z.array(z.string()) }),
]);

export class GraphProcess implements GraphInspector {
  readonly #clock: Clock;
  #code: Promise<string[]> | undefined;
  /** One at a time: each may take as much memory as its file has. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  inspect(file: string): Promise<InspectedGraph> {
    const turn = this.#turn.then(() => this.#inspect(file));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #inspect(file: string): Promise<InspectedGraph> {
    this.#code ??= codeFolders();
    const folders = await this.#code;
    const handle = await open(file);
    try {
      const { size } = await handle.stat();
      const answer = await this.#run(handle.fd, { folders, memoryMb: Math.ceil(size / megabyte) + otherMemoryMb });
      return readAnswer(answer);
    } finally {
      await handle.close();
    }
  }

  #run(fd: number, how: { folders: readonly string[]; memoryMb: number }): Promise<string> {
    const flags = ["--permission", ...how.folders.map((folder) => `--allow-fs-read=${folder}`), `--max-old-space-size=${heapMb}`];
    const node = [
      process.execPath,
      "--disable-warning=SecurityWarning",
      ...flags,
      fileURLToPath(new URL("./graph-check.ts", import.meta.url)),
    ];
    // -d: memory that a process can write to; what Node only reserves does not count
    const limits = `ulimit -c 0; ulimit -t ${limitMs / 1_000}; ulimit -d ${how.memoryMb * 1024} && exec "$@"`;
    const child = spawn("/bin/sh", ["-c", limits, "sh", ...node], { env: {}, cwd: "/", stdio: [fd, "pipe", "pipe"] });
    freeChild(child.pid);
    const { stderr, stdout } = child as ChildProcess & { stdout: Readable; stderr: Readable };
    return new Promise((resolve, reject) => {
      const output: Buffer[] = [];
      let outputBytes = 0;
      let trouble = "";
      let isLate = false;
      const cancelTimer = this.#clock.after(limitMs, () => {
        isLate = true;
        child.kill("SIGKILL");
      });
      stdout.on("data", (piece: Buffer) => {
        outputBytes += piece.length;
        if (outputBytes > mostAnswerBytes) child.kill("SIGKILL");
        else output.push(piece);
      });
      stderr.on("data", (piece: Buffer) => {
        if (trouble.length < 4_096) trouble += String(piece);
      });
      child.once("error", (error) => {
        cancelTimer();
        reject(error);
      });
      child.once("close", (code) => {
        cancelTimer();
        if (code === 0) return resolve(Buffer.concat(output).toString());
        const why = isLate ? `${limitMs / 1_000} s` : `${how.memoryMb} MiB and ${limitMs / 1_000} s`;
        const error = refusal(`it cannot be read within ${why}, which is more than a model of its size needs`);
        error.cause = trouble;
        reject(error);
      });
    });
  }
}

/** Where the code of that process lies, and what it uses. */
async function codeFolders(): Promise<string[]> {
  const here = import.meta.dirname;
  const onnx = fileURLToPath(import.meta.resolve("@switchyard/protocol/onnx"));
  const protobuf = createRequire(onnx).resolve("protobufjs/minimal.js");
  const long = createRequire(protobuf).resolve("long");
  const packages = [path.join(here, "../.."), path.join(path.dirname(onnx), "../.."), path.dirname(protobuf), packageOf(long)];
  const links = [path.join(here, "../../../node_modules/@switchyard/protocol")];
  const real = await Promise.all(packages.map((folder) => realpath(folder)));
  return [...new Set([...real, ...links])].flatMap((folder) => [folder, path.join(folder, "*")]);
}

function packageOf(file: string): string {
  return file.slice(0, file.lastIndexOf(`${path.sep}long${path.sep}`) + "/long".length);
}

export function readAnswer(text: string): InspectedGraph {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refusal("reading it gave no answer");
  }
  const { data: answer } = answerSchema.safeParse(value);
  if (answer === undefined) throw refusal("reading it gave no answer that makes sense");
  if ("refusal" in answer) throw refusal(answer.refusal);
  return answer;
}

function refusal(detail: string): SwitchyardError {
  return new SwitchyardError("invalid_request", `The graph is refused: ${detail}`, {
    fields: [{ pointer: "body", expected: "an ONNX model", got: detail.slice(0, 200) }],
  });
}
