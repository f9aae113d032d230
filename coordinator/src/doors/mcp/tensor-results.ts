/**
 * What a job answered, as a tool's result: the outputs as nested arrays and the class of each item by its label, as structured content and
 * the same as text. Outputs that are too large for an answer are linked to instead.
 */

import type { CallToolResult, ContentBlock } from "@modelcontextprotocol/server";
import { floatFromHalf, type ModelVersion, type Tensor, toStrings, toTypedArray } from "@switchyard/protocol";
import { resourceUris } from "./resource-uris.ts";

export const mostInlineBytes = 65_536;
const mostClassRows = 256;

export interface Answered {
  model: string;
  version: number;
  outputs: readonly Tensor[];
  /** Class names of outputs. */
  labels: ModelVersion["labels"];
  /** Where the job can be asked for later. */
  jobId?: string | undefined;
}

type Structured = Record<string, unknown>;

/** Whether the outputs go into an answer. Numbers take more room as text than as bytes. */
export function isSmall(outputs: readonly Tensor[]): boolean {
  return outputs.reduce((sum, { bytes }) => sum + bytes.length, 0) <= mostInlineBytes;
}

/** Without the outputs when they are too large: then `output_uri` says where they are, and the job must be kept. */
export function answerOf({ jobId, labels, model, outputs, version }: Answered): Answer {
  const classes = classesOf(outputs, labels);
  const about: Structured = { model, version, ...(classes && { classes }), ...(jobId !== undefined && { job_id: jobId }) };
  if (isSmall(outputs)) {
    const structured = { ...about, outputs: Object.fromEntries(outputs.map((output) => [output.name, nestedOf(output)])) };
    const text = JSON.stringify(structured);
    if (text.length <= mostInlineBytes) return { structured, text, isWhole: true };
  }
  const structured = { ...about, ...(jobId !== undefined && { output_uri: resourceUris.output(jobId) }) };
  return { structured, text: JSON.stringify(structured), isWhole: false };
}

interface Answer {
  structured: Structured;
  /** The same. */
  text: string;
  /** Whether the outputs are in it. */
  isWhole: boolean;
}

export function resultOf(
  structured: Structured,
  text: string = JSON.stringify(structured),
  more: readonly ContentBlock[] = [],
): CallToolResult {
  return { content: [{ type: "text", text }, ...more], structuredContent: structured };
}

export function linkTo(jobId: string): ContentBlock {
  const uri = resourceUris.output(jobId);
  return {
    type: "resource_link",
    uri,
    name: `output of job ${jobId}`,
    mimeType: "application/json",
    description: "The job's outputs, too large to show here",
  };
}

/** For each item of each output that has labels the one with the largest value; of outputs that are classes already, those. */
function classesOf(outputs: readonly Tensor[], labels: ModelVersion["labels"]): Structured | undefined {
  const found: [string, unknown][] = [];
  for (const output of outputs) {
    const names = labels?.[output.name];
    if (names === undefined || output.datatype === "BYTES") continue;
    const values = flatOf(output);
    if (isIndex(output, names.length)) {
      const indexed = indexedOf(values, names);
      if (indexed.length > 0) found.push([output.name, indexed]);
      continue;
    }
    const rows = output.shape.length > 1 ? output.shape[0]! : 1;
    const columns = rows === 0 ? 0 : values.length / rows;
    if (columns === 0) continue;
    // what is no number gives way to any that is
    const isBelow = (one: unknown, other: unknown): boolean => !(Number(one) >= Number(other));
    const best = Array.from({ length: Math.min(rows, mostClassRows) }, (_, row) => {
      const from = row * columns;
      let index = 0;
      for (let at = 1; at < columns; at++) if (isBelow(values[from + index], values[from + at])) index = at;
      return { ...(names[index] !== undefined && { class: names[index] }), index, value: values[from + index] };
    });
    found.push([output.name, best]);
  }
  return found.length === 0 ? undefined : Object.fromEntries(found);
}

/** Whole numbers are indexes of classes, but for those of a byte or two that have one for each class: the scores of a quantized model. */
function isIndex({ datatype, shape }: Tensor, classes: number): boolean {
  if (/^U?INT(32|64)$/.test(datatype)) return true;
  return /^(U?INT(8|16)|BOOL)$/.test(datatype) && !(shape.length > 1 && shape.at(-1) === classes);
}

/** One class for each value, in their order; none where one of them is the index of no class, and so none is. */
function indexedOf(values: readonly unknown[], names: readonly string[]): Structured[] {
  const indexes = values.map(Number);
  if (indexes.some((index) => names[index] === undefined)) return [];
  return indexes.slice(0, mostClassRows).map((index) => ({ class: names[index], index, value: index }));
}

function nestedOf(tensor: Tensor): unknown {
  let values = flatOf(tensor);
  if (tensor.shape.length === 0) return values[0];
  for (let axis = tensor.shape.length - 1; axis > 0; axis--) {
    const length = tensor.shape[axis]!;
    const groups = tensor.shape.slice(0, axis).reduce((product, one) => product * one, 1);
    const inner = values;
    values = Array.from({ length: groups }, (_, group) => inner.slice(group * length, (group + 1) * length));
  }
  return values;
}

function flatOf(tensor: Tensor): unknown[] {
  switch (tensor.datatype) {
    case "BYTES":
      return toStrings(tensor);
    case "BOOL":
      return Array.from(tensor.bytes, (byte) => byte !== 0);
    case "FP16":
      return Array.from(toTypedArray(tensor) as Uint16Array, (word) => shownFloat(floatFromHalf(word), 5));
    case "FP32":
      return Array.from(toTypedArray(tensor) as Float32Array, (value) => shownSingle(value));
    case "FP64":
      return Array.from(toTypedArray(tensor) as Float64Array, (value) => shownFloat(value, 17));
    case "INT64":
    case "UINT64":
      return Array.from(toTypedArray(tensor) as BigInt64Array, (value) =>
        Number.isSafeInteger(Number(value)) ? Number(value) : String(value),
      );
    default:
      return Array.from(toTypedArray(tensor) as Int32Array);
  }
}

/** Seven digits give back most singles, nine all of them. */
function shownSingle(value: number): number | string {
  const short = Number(value.toPrecision(7));
  return Number.isFinite(short) && Math.fround(short) === value ? short : shownFloat(value, 9);
}

/** So many significant digits give back the same number; more would only show the widening to a double. */
function shownFloat(value: number, digits: number): number | string {
  return Number.isFinite(value) ? Number(value.toPrecision(digits)) : String(value);
}
