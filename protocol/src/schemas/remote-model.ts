/** remote.yaml: a model that another server of the Open Inference Protocol holds, with the signature that its jobs are checked against. */

import { z } from "zod";
import { frameworkPattern } from "../capabilities.ts";
import type { ModelSignature, RemoteModel } from "../model.ts";
import { type Datatype, elementBytes } from "../tensors.ts";
import { faultsOf } from "./model-config.ts";

const tensorSchema = z.strictObject({
  name: z.string().min(1),
  datatype: z.enum(Object.keys(elementBytes) as [Datatype, ...Datatype[]]),
  /** -1 marks a dynamic axis. */
  shape: z.array(z.number().int().min(-1)),
});

/** An unknown key is an error. */
export const remoteModelSchema = z.strictObject({
  framework: z
    .string()
    .regex(frameworkPattern, "a framework's name: small letters, digits and . _ -")
    .refine((name) => name !== "onnx", "another framework than onnx, which hosts run themselves"),
  model: z.string().min(1).optional(),
  version: z.string().min(1).optional(),
  inputs: z.array(tensorSchema).min(1),
  outputs: z.array(tensorSchema).min(1),
});

export interface RemoteEntry {
  remote: RemoteModel;
  signature: ModelSignature;
}

/** `model` is the name in the repository, which the other server's model bears too unless the document says otherwise. */
export function checkRemoteModel(document: unknown, model: string): RemoteEntry | { problem: string } {
  const parsed = remoteModelSchema.safeParse(document);
  if (!parsed.success) return { problem: faultsOf(parsed.error, remoteModelSchema, document) };
  const { framework, inputs, outputs, version } = parsed.data;
  for (const [kind, tensors] of [["inputs", inputs] as const, ["outputs", outputs] as const]) {
    const twice = tensors.find(({ name }, at) => tensors.findIndex((other) => other.name === name) !== at);
    if (twice) return { problem: `${kind}: expected every name once, got '${twice.name}' twice` };
  }
  const remote: RemoteModel = { framework, model: parsed.data.model ?? model };
  if (version !== undefined) remote.version = version;
  return { remote, signature: { inputs, outputs } };
}
