/** How a model's tensors look as JSON, for those who are to write or read them: nested arrays where they are small, else bytes; images as files. */

import { type Datatype, imageFault, type ModelVersion, type TensorSignature } from "@switchyard/protocol";

type Schema = Record<string, unknown>;

/** Fixed elements of a tensor above which nobody writes them as numbers. */
const mostNestedElements = 4_096;

const elements: Record<Datatype, Schema> = {
  BOOL: { type: "boolean" },
  UINT8: { type: "integer", minimum: 0, maximum: 255 },
  UINT16: { type: "integer", minimum: 0, maximum: 65_535 },
  UINT32: { type: "integer", minimum: 0 },
  UINT64: { type: "integer", minimum: 0 },
  INT8: { type: "integer", minimum: -128, maximum: 127 },
  INT16: { type: "integer", minimum: -32_768, maximum: 32_767 },
  INT32: { type: "integer" },
  INT64: { type: "integer" },
  FP16: { type: "number" },
  FP32: { type: "number" },
  FP64: { type: "number" },
  BYTES: { type: "string" },
};

/** What has no number in JSON comes as text: infinities, NaN, whole numbers beyond 2^53. */
const outputElements: Partial<Record<Datatype, Schema>> = {
  UINT64: { type: ["integer", "string"] },
  INT64: { type: ["integer", "string"] },
  FP16: { type: ["number", "string"] },
  FP32: { type: ["number", "string"] },
  FP64: { type: ["number", "string"] },
};

const image: Schema = {
  type: "object",
  description: "a PNG image",
  properties: { data: { type: "string", description: "base64" }, mimeType: { const: "image/png" } },
  required: ["data", "mimeType"],
};
const imageUri: Schema = {
  type: "object",
  description: "a PNG image",
  properties: { uri: { type: "string", pattern: "^data:image/png;base64," } },
  required: ["uri"],
};
const bytes: Schema = {
  type: "object",
  description: "little-endian elements, row by row; BYTES elements behind their length in 4 bytes",
  properties: { base64: { type: "string" }, shape: { type: "array", items: { type: "integer", minimum: 0 } } },
  required: ["base64", "shape"],
};
const textUri: Schema = {
  type: "object",
  description: "a text file, as the one element",
  properties: { uri: { type: "string", pattern: "^data:" } },
  required: ["uri"],
};

export function typeOf({ datatype, shape }: TensorSignature): string {
  return `${datatype} [${shape.join(",")}]`;
}

/** Whether the model's input can be made of an image. */
export function takesImage({ config, model, signature }: ModelVersion): boolean {
  return imageFault({ model, inputs: signature.inputs, config }) === undefined;
}

/** Of the argument `inputs`: one member for each of the model's inputs. */
export function inputsSchema(version: ModelVersion): Schema {
  const { inputs } = version.signature;
  return {
    type: "object",
    properties: Object.fromEntries(inputs.map((input) => [input.name, inputSchema(input, version)])),
    required: inputs.map(({ name }) => name),
    additionalProperties: false,
  };
}

function inputSchema(input: TensorSignature, version: ModelVersion): Schema {
  const forms: Schema[] = [];
  const fixed = input.shape.reduce((product, axis) => product * Math.max(axis, 1), 1);
  if (fixed <= mostNestedElements) forms.push(nested(input, elements[input.datatype], { sized: true }));
  if (takesImage(version)) forms.push(image, imageUri);
  if (input.datatype === "BYTES") forms.push(textUri);
  forms.push(bytes);
  return { description: typeOf(input), anyOf: forms };
}

function nested({ shape }: TensorSignature, element: Schema, { sized }: { sized: boolean }): Schema {
  return shape.reduceRight<Schema>(
    (items, axis) => ({ type: "array", items, ...(sized && axis >= 0 && { minItems: axis, maxItems: axis }) }),
    element,
  );
}

const classSchema: Schema = {
  type: "object",
  properties: { class: { type: "string" }, index: { type: "integer" }, value: { type: ["number", "string"] } },
  required: ["index", "value"],
};

/** Of what an inference answers, as `tensor-results.ts` makes it; without a version, of any model. */
export function resultSchema(version?: ModelVersion): Schema {
  const outputs = version?.signature.outputs ?? [];
  const named = (of: (output: TensorSignature) => Schema, from = outputs): Schema => ({
    type: "object",
    ...(version && { properties: Object.fromEntries(from.map((output) => [output.name, of(output)])) }),
  });
  const labelled = outputs.filter(({ name }) => version?.labels?.[name] !== undefined);
  return {
    type: "object",
    properties: {
      model: { type: "string" },
      version: { type: "integer" },
      outputs: named((output) => nested(output, outputElements[output.datatype] ?? elements[output.datatype], { sized: false })),
      ...((version === undefined || labelled.length > 0) && {
        classes: {
          ...named(() => ({ type: "array", items: classSchema }), labelled),
          description: "for each item the class with the largest value, or that the output names by its index, by output",
        },
      }),
      output_uri: { type: "string", description: "in the place of outputs that are too large for this answer" },
      job_id: { type: "string" },
    },
    required: ["model", "version"],
  };
}
