/** ONNX element types by their number in TensorProto.DataType, and which of them travel as tensors here. */

import type { Datatype } from "../tensors.ts";

interface ElementType {
  /** Name as the ONNX documentation writes it. */
  name: string;
  /** Absent where onnxruntime-node cannot carry the type. */
  datatype?: Datatype;
}

const byCode: Readonly<Record<number, ElementType>> = {
  1: { name: "float", datatype: "FP32" },
  2: { name: "uint8", datatype: "UINT8" },
  3: { name: "int8", datatype: "INT8" },
  4: { name: "uint16", datatype: "UINT16" },
  5: { name: "int16", datatype: "INT16" },
  6: { name: "int32", datatype: "INT32" },
  7: { name: "int64", datatype: "INT64" },
  8: { name: "string", datatype: "BYTES" },
  9: { name: "bool", datatype: "BOOL" },
  10: { name: "float16", datatype: "FP16" },
  11: { name: "double", datatype: "FP64" },
  12: { name: "uint32", datatype: "UINT32" },
  13: { name: "uint64", datatype: "UINT64" },
  14: { name: "complex64" },
  15: { name: "complex128" },
  16: { name: "bfloat16" },
  17: { name: "float8e4m3fn" },
  18: { name: "float8e4m3fnuz" },
  19: { name: "float8e5m2" },
  20: { name: "float8e5m2fnuz" },
  21: { name: "uint4" },
  22: { name: "int4" },
  23: { name: "float4e2m1" },
  24: { name: "float8e8m0" },
  25: { name: "uint2" },
  26: { name: "int2" },
};

const codes = new Map(Object.entries(byCode).flatMap(([code, type]) => (type.datatype ? [[type.datatype, Number(code)] as const] : [])));

export function elementTypeName(code: number): string {
  return byCode[code]?.name ?? `element type ${code}`;
}

/** Undefined when onnxruntime-node cannot carry the type. */
export function datatypeOfElement(code: number): Datatype | undefined {
  return byCode[code]?.datatype;
}

export function elementTypeCode(datatype: Datatype): number {
  return codes.get(datatype)!;
}
