/** @ai-sdk/mcp, a client that does not use the official library, against a cluster. */

import assert from "node:assert/strict";
import { type Outcome, Tally } from "./outcome.ts";
import type { Peers } from "./peers.ts";

interface ForeignTool {
  execute(
    args: unknown,
    options: { toolCallId: string; messages: unknown[] },
  ): Promise<{ structuredContent?: Record<string, unknown>; isError?: boolean }>;
}

interface ForeignClient {
  tools(): Promise<Record<string, ForeignTool>>;
  close(): Promise<void>;
}

const image = Array.from({ length: 64 }, (_, index) => index % 16);
const options = { toolCallId: "call-1", messages: [] };

export async function independentClient(peers: Peers, url: string): Promise<Outcome> {
  const tally = new Tally("ai-sdk", "@ai-sdk/mcp lists and calls");
  const { createMCPClient } = (await peers.load("@ai-sdk/mcp")) as {
    createMCPClient: (options: unknown) => Promise<ForeignClient>;
  };
  const client = await createMCPClient({ transport: { type: "http", url: `${url}/mcp` } });
  try {
    const tools = await client.tools();
    await tally.check("it lists the model's tool", () =>
      assert.ok(tools.infer_digits !== undefined, `got ${Object.keys(tools).join(", ")}`),
    );
    await tally.check("it calls the model's tool", async () => {
      const { structuredContent, isError } = await tools.infer_digits!.execute({ inputs: { image: [image] } }, options);
      assert.notEqual(isError, true);
      assert.equal(structuredContent?.model, "digits");
    });
    await tally.check("an input that is wrong is an error of the tool, with advice", async () => {
      const answer = await tools.infer_digits!.execute({ inputs: { image: [[1, 2]] } }, options);
      assert.equal(answer.isError, true);
      assert.match(JSON.stringify(answer), /image/);
    });
  } finally {
    await client.close();
  }
  return tally.outcome;
}
