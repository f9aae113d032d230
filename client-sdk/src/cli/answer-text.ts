/** An inference's answer for people: the likeliest class where the model has labels, else its outputs, shortened. */

import { floatFromHalf, type ModelView } from "@switchyard/protocol";
import type { InferResult, OutputTensor } from "../infer-answer.ts";
import { textTable } from "./text-table.ts";

const shownValues = 8;
const shownRows = 10;
const shownClasses = 3;

/** Several lines without a last newline. */
export function answerText(result: InferResult, labels: ModelView["labels"]): string {
  const outputs = Object.values(result.outputs);
  for (const output of outputs) {
    const names = labels?.[output.name];
    const text = names === undefined ? undefined : classesText(output, names);
    if (text !== undefined) return text;
  }
  return outputsText(outputs);
}

function outputsText(outputs: readonly OutputTensor[]): string {
  const rows = outputs.map((output) => [output.name, output.datatype, `[${output.shape.join(",")}]`, valuesText(output)]);
  return textTable([{ title: "OUTPUT" }, { title: "TYPE" }, { title: "SHAPE" }, { title: "VALUES" }], rows);
}

function valuesText(output: OutputTensor): string {
  const shown = Array.from(output.data.slice(0, shownValues) as ArrayLike<number | bigint | string>, (value) => valueText(output, value));
  const rest = output.data.length - shown.length;
  return rest > 0 ? `${shown.join(" ")} … ${rest} more` : shown.join(" ");
}

function valueText(output: OutputTensor, value: number | bigint | string): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (output.datatype === "BOOL") return value === 0 ? "false" : "true";
  const number = output.datatype === "FP16" ? floatFromHalf(Number(value)) : value;
  return typeof number === "number" && !Number.isInteger(number) ? String(Number(number.toPrecision(6))) : String(number);
}

/** Undefined when the output does not look like one value a class, or one class index an item. */
function classesText(output: OutputTensor, labels: readonly string[]): string | undefined {
  if (output.datatype === "FP32" || output.datatype === "FP64" || output.datatype === "FP16") {
    if (output.shape.at(-1) !== labels.length || output.data.length === 0) return undefined;
    const values = Array.from(output.data as ArrayLike<number>, (value) => (output.datatype === "FP16" ? floatFromHalf(value) : value));
    const items = Array.from({ length: values.length / labels.length }, (_, item) =>
      ranked(values.slice(item * labels.length, (item + 1) * labels.length), labels),
    );
    return items.length === 1 ? oneItemText(items[0]!) : manyItemsText(items);
  }
  if (typeof output.data[0] !== "bigint" && typeof output.data[0] !== "number") return undefined;
  const indexes = Array.from(output.data as ArrayLike<number | bigint>, Number);
  if (indexes.some((index) => labels[index] === undefined)) return undefined;
  return indexes
    .slice(0, shownRows)
    .map((index) => labels[index]!)
    .join("\n");
}

interface Ranked {
  label: string;
  /** 0 to 1 */
  probability: number;
}

/** Likeliest first. Values that are no distribution (logits) go through softmax first. */
function ranked(values: readonly number[], labels: readonly string[]): Ranked[] {
  const sum = values.reduce((total, value) => total + value, 0);
  const isDistribution = values.every((value) => value >= -1e-6 && value <= 1 + 1e-6) && Math.abs(sum - 1) < 1e-2;
  const probabilities = isDistribution ? values : softmax(values);
  return probabilities.map((probability, index) => ({ label: labels[index]!, probability })).sort((a, b) => b.probability - a.probability);
}

function softmax(values: readonly number[]): number[] {
  const largest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function oneItemText(classes: readonly Ranked[]): string {
  const top = classes[0]!;
  const rows = classes.slice(0, shownClasses).map((entry, place) => [place + 1, entry.label, percent(entry.probability)]);
  const table = textTable([{ title: "#", align: "right" }, { title: "CLASS" }, { title: "PROBABILITY", align: "right" }], rows);
  return `${top.label}  ${percent(top.probability)}\n\n${table}`;
}

function manyItemsText(items: readonly Ranked[][]): string {
  const rows = items.slice(0, shownRows).map((classes, item) => [item, classes[0]!.label, percent(classes[0]!.probability)]);
  const table = textTable([{ title: "ITEM", align: "right" }, { title: "CLASS" }, { title: "PROBABILITY", align: "right" }], rows);
  return items.length > shownRows ? `${table}\n… ${items.length - shownRows} more` : table;
}

function percent(probability: number): string {
  return `${(probability * 100).toFixed(1)} %`;
}
