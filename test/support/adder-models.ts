/** Models of which a test only wants to know which one answered, and two that are in its way: `x` FP32 [-1, width] → `y` FP32 [-1, width]. */

import { GraphBuilder } from "@switchyard/protocol/onnx";
import { floats } from "./calls.ts";

/** Adds a number: the answer tells which. */
export function adder(addend: number, width = 1): GraphBuilder {
  const graph = graphOf("adder", width);
  graph.node("Add", ["x", graph.weight("addend", [width], new Float32Array(width).fill(addend))], {}, "y");
  return graph;
}

/** A graph that can be read and not be loaded: nothing knows its operator, NoSuchOperator. */
export function notRunnable(): GraphBuilder {
  const graph = graphOf("not-runnable", 1);
  graph.node("NoSuchOperator", ["x"], {}, "y");
  return graph;
}

function graphOf(name: string, width: number): GraphBuilder {
  const graph = new GraphBuilder({ name });
  graph.input("x", "FP32", ["batch", width]);
  graph.output("y", "FP32", ["batch", width]);
  return graph;
}

/** To which an adder answers its addend. */
export const zeroRequest = { inputs: [floats("x", [1, 1], [0])] };
