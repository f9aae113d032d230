import assert from "node:assert/strict";
import { test } from "node:test";
import { checkToolServers } from "../../coordinator/src/adapters/tool-server-settings.ts";
import type { ToolServer } from "../../coordinator/src/application/tool-server.ts";
import { toServerView } from "../../coordinator/src/doors/tool-server-views.ts";

test("of a server's address its origin is shown, as tokens stand in paths, too", () => {
  const entry = { url: "https://user:s3cret@tools.example.org:8443/s3cret/mcp?key=s3cret" };
  const [settings] = checkToolServers({ mcpServers: { s: entry } }, { env: {}, folder: "/" }).servers;
  const view = () => ({ state: "ready", sinceMs: 0, losses: 0, rests: false });
  const server = { settings, view, tools: new Map(), slots: { running: 0, waiting: 0 } } as unknown as ToolServer;
  assert.equal(toServerView(server).endpoint, "https://tools.example.org:8443");
});
