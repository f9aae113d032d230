/**
 * What a call lacks, asked of the client's user. The client repeats its call with the answers and with a note of what was asked, which is
 * signed: so any coordinator can go on, and nobody answers what was never asked. In the legacy era the library asks in the call's own session.
 */

import { createHmac } from "node:crypto";
import {
  createRequestStateCodec,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
  type RequestStateCodec,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { SwitchyardError } from "@switchyard/protocol";
import type { SharedSecret } from "../../ports/shared-secret.ts";
import { factsIn, principalOf } from "./request-facts.ts";

const answersKey = "missing";

/** One thing that is asked for. */
export interface Question {
  title: string;
  description: string;
  type: "string" | "number" | "integer" | "boolean";
  /** Where there is a choice. */
  enum?: readonly string[];
}

type Answers = Readonly<Record<string, unknown>>;

interface Asked {
  /** The tool, and what its questions depend on: answers to other questions are none. */
  about: string;
  names: string[];
  /** What was answered in the rounds before, by what it was about. */
  earlier: Readonly<Record<string, Answers>>;
}

export class StateCodec {
  readonly #secret: SharedSecret;
  #made: { secret: Uint8Array; codec: RequestStateCodec<Asked> } | undefined;

  constructor(secret: SharedSecret) {
    this.#secret = secret;
  }

  /** Only when something is asked or answered: most calls need no secret. */
  async codec(): Promise<RequestStateCodec<Asked>> {
    const secret = await this.#secret.read();
    if (this.#made?.secret !== secret) {
      const key = createHmac("sha256", secret).update("mcp request state").digest();
      const bind = (context: ServerContext): string => `${context.mcpReq.method}\0${principalOf(factsIn(context).caller)}`;
      this.#made = { secret, codec: createRequestStateCodec<Asked>({ key, bind }) };
    }
    return this.#made.codec;
  }
}

export class Questions {
  readonly #context: ServerContext;
  readonly #codec: StateCodec;
  readonly #canAsk: boolean;

  constructor(context: ServerContext, codec: StateCodec, canAsk: boolean) {
    this.#context = context;
    this.#codec = codec;
    this.#canAsk = canAsk;
  }

  /** What the user answered to the questions about this; undefined when they were not asked. Throws `cancelled` when the user would not answer. */
  answers(about: string): Answers | undefined {
    return this.#answered()[about];
  }

  #answered(): Readonly<Record<string, Answers>> {
    const asked = this.#context.mcpReq.requestState<Asked>();
    if (typeof asked !== "object") return {};
    const { about, earlier, names } = asked;
    const view = inputResponse(this.#context.mcpReq.inputResponses, answersKey);
    if (view.kind !== "elicit") return earlier;
    if (view.action !== "accept") throw new SwitchyardError("cancelled", `The user was asked for ${names.join(", ")} and would not answer`);
    const answers = Object.entries(view.content ?? {}).filter(([name]) => names.includes(name));
    return { ...earlier, [about]: Object.fromEntries(answers) };
  }

  /** Undefined where the client cannot ask its user. */
  async ask(about: string, message: string, questions: Readonly<Record<string, Question>>): Promise<InputRequiredResult | undefined> {
    if (!this.#canAsk) return undefined;
    const names = Object.keys(questions);
    const codec = await this.#codec.codec();
    return inputRequired({
      inputRequests: {
        [answersKey]: inputRequired.elicit({
          message,
          requestedSchema: { type: "object", properties: structuredClone(questions) as never, required: names },
        }),
      },
      requestState: await codec.mint({ about, names, earlier: this.#answered() }, this.#context),
    });
  }
}
