export { datatypeOfElement, elementTypeCode, elementTypeName } from "./element-types.ts";
export { GraphBuilder, type WeightValues } from "./graph-builder.ts";
export { type OnnxGraph, readGraph } from "./graph-reader.ts";
export {
  type OnnxAttribute,
  type OnnxGraphParts,
  type OnnxModel,
  type OnnxNode,
  type OnnxValue,
  type OnnxWeight,
  writeModel,
} from "./graph-writer.ts";
