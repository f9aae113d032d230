/** Tools of other servers at this cluster's own door: offered on where the configuration says so, called under the caller's consent and trail. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connectMcp, eras } from "../support/mcp-client.ts";
import { openDoor } from "../support/open-door.ts";
import { fixture, toolRig } from "../support/tool-rig.ts";
import { until } from "../support/until.ts";

describe("tools of other servers at the door", { concurrency: true }, () => {
  for (const era of eras) {
    test(`a ${era} client calls a tool of another server for as long as it is offered on`, async (t) => {
      const rig = await toolRig(t);
      const { calls, desk, servers } = rig;
      const audit = { append: async () => {}, read: async () => [] };
      const door = await openDoor(t, {}, { tools: { calls, desk, servers, audit } });
      rig.configure({ shown: fixture({ expose: ["echo", "wipe"], denyTools: ["wipe"] }), hidden: fixture() });
      await rig.ready("shown", "hidden");
      const client = await connectMcp(t, door.url, { era });
      // what this client has kept of an earlier list is not what is offered now
      const names = async (): Promise<string[]> =>
        (await client.listTools(undefined, { cacheMode: "bypass" })).tools.map(({ name }) => name).filter((name) => name.includes("__"));
      assert.deepEqual(await names(), ["shown__echo"]);

      const answer = await client.callTool({ name: "shown__echo", arguments: { text: "hello" } });
      assert.match(JSON.stringify(answer.content), /hello/);
      assert.deepEqual(
        rig.acts.filter(({ event }) => event === "call").map(({ outcome, server, tool, via }) => ({ outcome, server, tool, via })),
        [{ outcome: "ok", server: "shown", tool: "echo", via: "mcp" }],
      );
      const wrong = await client.callTool({ name: "shown__echo", arguments: { text: 7 } });
      assert.equal(wrong.isError, true);
      assert.match(JSON.stringify(wrong.content), /text/);
      for (const name of ["shown__wipe", "hidden__echo"]) {
        await assert.rejects(client.callTool({ name, arguments: {} }), /Unknown tool/);
      }

      rig.configure({ shown: fixture({ expose: [] }), hidden: fixture() });
      await until("the tool to be gone", async () => (await names()).length === 0);
    });

    test(`a ${era} client is told of progress while another server works, and its call ends with the coordinator`, async (t) => {
      const rig = await toolRig(t);
      const { calls, desk, servers } = rig;
      const audit = { append: async () => {}, read: async () => [] };
      const door = await openDoor(t, {}, { tools: { calls, desk, servers, audit } });
      rig.configure({ shown: fixture({ expose: ["slow", "hang"] }) });
      await rig.ready("shown");
      const client = await connectMcp(t, door.url, { era });
      const told: (string | undefined)[] = [];
      const onprogress = ({ message }: { message?: string | undefined }) => void told.push(message);
      const slow = await client.callTool({ name: "shown__slow", arguments: { ms: 1_500 } }, { onprogress });
      assert.notEqual(slow.isError, true, JSON.stringify(slow));
      assert.deepEqual([...new Set(told)], ["waiting for shown"]);

      const hanging = client.callTool({ name: "shown__hang", arguments: {} }, { onprogress });
      told.length = 0;
      await until("the call to be under way", async () => told.length > 0);
      door.server.endHeld();
      const ended = await hanging;
      assert.equal(ended.isError, true);
      const failure = ended._meta!["switchyard/error"] as { code: string };
      assert.equal(failure.code, "cancelled");
      assert.match(JSON.stringify(ended.content), /the tool may have run/);
    });
  }
});
