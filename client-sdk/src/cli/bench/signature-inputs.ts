/** Inputs that fit a model's signature, of random values, for loads whose answers nobody looks at. */

import type { Datatype, ModelView, Tensor } from "@switchyard/protocol";
import { type Element, tensorOf } from "../../inputs.ts";

/** One item: every axis that the model leaves open has size 1. Floats are normal, whole numbers 0 or 1, which every vocabulary has. */
export function inputsFor(model: Pick<ModelView, "inputs">, random: () => number): Tensor[] {
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const bit = (): number => Math.floor(2 * random());
  const element = (datatype: Datatype): Element => {
    if (datatype.startsWith("FP")) return normal();
    if (datatype === "BOOL") return bit() === 1;
    return datatype === "BYTES" ? String(bit()) : bit();
  };
  return model.inputs.map(({ name, datatype, shape: declared }) => {
    const shape = declared.map((axis) => (axis < 0 ? 1 : axis));
    const count = shape.reduce((product, axis) => product * axis, 1);
    return tensorOf(name, {
      data: Array.from({ length: count }, () => element(datatype as Datatype)),
      shape,
      datatype: datatype as Datatype,
    });
  });
}
