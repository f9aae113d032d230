/** Reads a graph that somebody sent, where a file made to do harm can do none. */

import type { ModelSignature } from "@switchyard/protocol";

export interface InspectedGraph {
  signature: ModelSignature;
  /** Files with external weights, as the graph names them, in name order. */
  externalFiles: string[];
}

export interface GraphInspector {
  /** Throws `invalid_request` when the file is no ONNX model that can be served, or takes more memory or time than any such model needs. */
  inspect(file: string): Promise<InspectedGraph>;
}
