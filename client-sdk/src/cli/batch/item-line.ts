/** From a line of the file of items to the job that the server takes, as JSON. */

import type { ModelView } from "@switchyard/protocol";
import type { BatchLine } from "../../batch-run.ts";
import { ClientError } from "../../client-errors.ts";
import { encodeJobLine, type SubmitOptions } from "../../infer-call.ts";
import { UsageError } from "../exit-codes.ts";
import { inputsOf, parseJson } from "../model-inputs.ts";

export interface ItemTerms {
  model: ModelView;
  options: SubmitOptions;
}

/** A line that has `inputs` goes out as it is, behind the terms, of which its own fields are the exceptions. */
export class ItemLines {
  readonly #terms: ItemTerms;
  /** The job without its inputs, up to the last brace. */
  readonly #head: string;

  constructor(terms: ItemTerms) {
    this.#terms = terms;
    const bare = JSON.parse(encodeJobLine(terms.model.model, [], terms.options)) as Record<string, unknown>;
    const { inputs: _none, ...fields } = bare;
    this.#head = JSON.stringify(fields).slice(0, -1);
  }

  /** What is no item is told apart, and the others go on. */
  line(index: number, text: string): BatchLine {
    try {
      return { index, json: this.#json(text) };
    } catch (error) {
      if (!(error instanceof UsageError || error instanceof ClientError)) throw error;
      return { index, error: error instanceof ClientError ? error : new ClientError("invalid_request", error.message) };
    }
  }

  #json(text: string): string {
    const item = plain(text);
    if (typeof item !== "object" || item === null || Array.isArray(item)) {
      throw new UsageError('the line is no object: give {"inputs": [...]} of the protocol, or {"name": data}');
    }
    if ("inputs" in item) return `${this.#head},${text.slice(1)}`;
    const exact = parseJson(text, "the line") as object;
    return encodeJobLine(this.#terms.model.model, inputsOf(exact, this.#terms.model), this.#terms.options);
  }
}

/** Only to see what it is: most lines go out as they came, and an exact parse costs several times as much. */
function plain(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`the line is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
