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
      const told: { progress: number; total?: number | undefined; message?: string | undefined }[] = [];
      const onprogress = (note: (typeof told)[number]) => void told.push(note);
      const complaints: Error[] = [];
      client.onerror = (error) => void complaints.push(error);
      const slow = await client.callTool({ name: "shown__slow", arguments: { ms: 1_500, late: true } }, { onprogress });
      assert.notEqual(slow.isError, true, JSON.stringify(slow));
      const shown = JSON.stringify(told);
      assert.ok(told.length >= 3 && told.length <= 4 * 4, `four a second at most, of thirty that came: ${shown}`);
      assert.ok(told.slice(1).every(({ progress }, at) => progress > told[at]!.progress) && told.at(-1)!.progress > 0.5, shown);
      assert.ok(
        told.every(({ message, progress, total }) => progress < 1 && total === 1 && /^shown: \d+ of 1500$/.test(message!)),
        shown,
      );
      const counted = told.length;
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.deepEqual([told.length, complaints], [counted, []], "nothing after the answer");

      const hanging = client.callTool({ name: "shown__hang", arguments: {} }, { onprogress });
      told.length = 0;
      await until("the call to be under way", async () => told.length > 0);
      door.server.endHeld();
      const ended = await hanging;
      assert.equal(ended.isError, true);
      assert.ok(told.every(({ message, progress, total }) => message === "waiting for shown" && progress < 0.1 && total === undefined));
      const failure = ended._meta!["switchyard/error"] as { code: string };
      assert.equal(failure.code, "cancelled");
      assert.match(JSON.stringify(ended.content), /the tool may have run/);
    });
  }
});
