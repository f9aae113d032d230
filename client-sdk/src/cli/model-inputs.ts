/** Inputs of a model from the command line: a PNG image, or tensors as JSON from arguments, files and standard input. */

import { type Datatype, isDatatype, type ModelView } from "@switchyard/protocol";
import type { Command } from "commander";
import { type Element, type Inputs, type InputTensor, type Nested, tensorOf } from "../inputs.ts";
import type { Cli } from "./cli.ts";
import { UsageError } from "./exit-codes.ts";
import { imageTensor } from "./image-tensor.ts";
import { collect } from "./option-values.ts";

export interface InputOptions {
  image?: string;
  input?: string[];
  inputs?: string;
}

export function addInputOptions(command: Command): Command {
  return command
    .option("--image <file.png>", "make the input from a PNG image, as the model's `image` settings say; - reads standard input")
    .option("--input <name=value>", "one input: JSON, or @file.json, or - for standard input (repeatable)", collect)
    .option("--inputs <file.json>", 'all inputs: {"inputs": [...]} of the protocol, or {"name": data}; - reads standard input');
}

/** Throws UsageError that says which option or field is wrong. */
export async function readInputs(options: InputOptions, model: ModelView, cli: Cli): Promise<Inputs> {
  const tensors = new Map<string, InputTensor>();
  if (options.inputs !== undefined) {
    const json = parseJson(await cli.read(options.inputs), options.inputs);
    if (typeof json !== "object" || json === null) throw new UsageError("--inputs must hold an object or a list of tensors");
    for (const [name, value] of readAll(json, model)) tensors.set(name, value);
  }
  for (const text of options.input ?? []) {
    const { name, value } = await readOne(text, model, cli);
    tensors.set(name, value);
  }
  if (options.image !== undefined) {
    const { readPng } = await import("./png-pixels.ts");
    const bytes = await cli.read(options.image);
    const made = imageTensor(readPng(bytes, options.image === "-" ? "standard input" : options.image), model);
    tensors.set(made.name, { data: made.data, shape: made.shape });
  }
  if (tensors.size === 0) {
    const wanted = model.inputs.map((input) => `${input.name} (${input.datatype} [${input.shape}])`).join(", ");
    throw new UsageError(`model ${model.model} needs inputs: ${wanted}; give them with --input, --inputs or --image`);
  }
  return [...tensors].map(([name, value]) => tensorOf(name, value));
}

async function readOne(text: string, model: ModelView, cli: Cli): Promise<{ name: string; value: InputTensor }> {
  const match = /^([^=@[{"]+)=(.*)$/s.exec(text);
  const name = match?.[1] ?? (model.inputs.length === 1 ? model.inputs[0]!.name : undefined);
  if (name === undefined) throw new UsageError(`--input ${shortened(text)}: say which input, as name=value`);
  const source = match?.[2] ?? text;
  const isFile = source === "-" || source.startsWith("@");
  const json = isFile ? parseJson(await cli.read(source === "-" ? "-" : source.slice(1)), source) : parseJson(source, `--input ${name}`);
  return { name, value: inputTensor(name, json, model) };
}

/** Data by name, or `{"inputs": [...]}`, as a model takes it. Throws UsageError and ClientError `invalid_request`. */
export function inputsOf(json: object, model: ModelView): Inputs {
  return readAll(json, model).map(([name, value]) => tensorOf(name, value));
}

/** `{"inputs": [...]}`, a list of tensors, or an object of data by name. */
function readAll(json: object, model: ModelView): [string, InputTensor][] {
  const list = Array.isArray(json) ? json : "inputs" in json && Array.isArray(json.inputs) ? json.inputs : undefined;
  if (list === undefined) return Object.entries(json).map(([name, value]) => [name, inputTensor(name, value, model)]);
  return list.map((entry: unknown, index) => {
    if (!isObject(entry) || typeof entry.name !== "string") throw new UsageError(`inputs: tensor ${index} has no name`);
    return [entry.name, inputTensor(entry.name, entry, model)];
  });
}

/** What the JSON leaves open comes from the model's signature. */
function inputTensor(name: string, json: unknown, model: ModelView): InputTensor {
  const declared = model.inputs.find((input) => input.name === name);
  const given = isObject(json) ? json : { data: json };
  if (given.data === undefined) throw new UsageError(`input ${name} has no data`);
  const datatype = given.datatype ?? declared?.datatype;
  if (typeof datatype !== "string" || !isDatatype(datatype)) {
    const names = model.inputs.map((input) => input.name).join(", ");
    throw new UsageError(
      datatype === undefined
        ? `model ${model.model} has no input ${name}; it has ${names}`
        : `input ${name}: datatype ${String(datatype)} is unknown`,
    );
  }
  const data = given.data as Nested<Element> | Element;
  return { data, datatype: datatype as Datatype, shape: (given.shape as number[] | undefined) ?? flatShape(data, declared?.shape) };
}

/** The model's own shape for data that was given flat; undefined where the nesting or the server has to say. */
function flatShape(data: Nested<Element> | Element, declared: readonly number[] | undefined): number[] | undefined {
  if (declared === undefined || declared.length < 2 || !Array.isArray(data) || Array.isArray(data[0])) return undefined;
  const open = declared.findIndex((axis) => axis < 0);
  const shape = declared.map((axis, at) => (axis < 0 && at !== open ? 1 : axis));
  const fixed = shape.reduce((product, axis, at) => (at === open ? product : product * axis), 1);
  if (open >= 0) shape[open] = data.length / fixed;
  return shape.every(Number.isInteger) && shape.reduce((product, axis) => product * axis, 1) === data.length ? shape : undefined;
}

/** Whole numbers beyond 2^53 become bigints. Throws UsageError. */
export function parseJson(source: Uint8Array | string, name: string): unknown {
  const text = typeof source === "string" ? source : new TextDecoder().decode(source);
  try {
    return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) => {
      const isRounded = typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "");
      return isRounded ? BigInt(context!.source!) : value;
    });
  } catch (error) {
    throw new UsageError(`${name} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shortened(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
