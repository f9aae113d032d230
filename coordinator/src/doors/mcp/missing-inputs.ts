/** Inputs that a call lacks, asked of the user one by one, and the answers as arguments. Forms have texts, numbers and switches, so tensors come as JSON. */

import type { InputRequiredResult } from "@modelcontextprotocol/server";
import { type ModelVersion, parseJson, SwitchyardError, type TensorSignature } from "@switchyard/protocol";
import { badRequest } from "../request-options.ts";
import type { Question } from "./questions.ts";
import { type GivenInputs, missingInputs } from "./tensor-arguments.ts";
import { takesImage, typeOf } from "./tensor-schemas.ts";
import type { ToolCall } from "./tool.ts";

/** Axes of a tensor that somebody writes by hand. */
const mostDepth = 64;

/** The inputs with what the user added, or the question that is to be asked. Throws `signature_mismatch` where nobody can be asked. */
export async function completeInputs(
  call: ToolCall,
  given: GivenInputs,
  version: ModelVersion,
): Promise<{ inputs: GivenInputs } | { question: InputRequiredResult }> {
  if (missingInputs(given, version).length === 0) return { inputs: given };
  const about = `${call.name} ${version.tag}`;
  const answers = call.questions.answers(about);
  const inputs = answers === undefined ? given : withAnswers(given, answers, version);
  const missing = missingInputs(inputs, version);
  if (missing.length === 0) return { inputs };
  const message = `Model ${version.model} needs ${missing.map((input) => `${input.name} (${typeOf(input)})`).join(", ")}`;
  const question = await call.questions.ask(
    about,
    message,
    Object.fromEntries(missing.map((input) => [input.name, questionOf(input, version)])),
  );
  if (question !== undefined) return { question };
  throw new SwitchyardError("signature_mismatch", `${message}: give it in the argument \`inputs\``, {
    fields: missing.map((input) => ({ pointer: `${given.at}/${input.name}`, expected: typeOf(input), got: "nothing" })),
  });
}

const isSingle = ({ shape }: TensorSignature): boolean => shape.every((axis) => axis === 1 || axis === -1);

function questionOf(input: TensorSignature, version: ModelVersion): Question {
  const about = { title: input.name, description: typeOf(input) };
  if (isSingle(input) && input.datatype === "BYTES") return { ...about, type: "string" };
  if (isSingle(input) && input.datatype === "BOOL") return { ...about, type: "boolean" };
  if (isSingle(input)) return { ...about, type: input.datatype.startsWith("FP") ? "number" : "integer" };
  const image = takesImage(version) ? ", or a PNG image as data:image/png;base64,…" : "";
  return { ...about, description: `${about.description} as nested JSON arrays${image}`, type: "string" };
}

function withAnswers(given: GivenInputs, answers: Readonly<Record<string, unknown>>, version: ModelVersion): GivenInputs {
  const values = { ...given.values };
  for (const input of missingInputs(given, version)) {
    const answer = answers[input.name];
    if (answer !== undefined) values[input.name] = argumentOf(answer, input, `${given.at}/${input.name}`);
  }
  return { values, at: given.at };
}

function argumentOf(answer: unknown, input: TensorSignature, at: string): unknown {
  if (isSingle(input)) return input.shape.reduce<unknown>((inner) => [inner], answer);
  const text = String(answer).trim();
  if (text.startsWith("data:")) return { uri: text };
  try {
    return parseJson(Buffer.from(text), mostDepth).value;
  } catch {
    throw badRequest(at, `${typeOf(input)} as nested JSON arrays`, text);
  }
}
