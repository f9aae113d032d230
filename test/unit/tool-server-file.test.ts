/** The coordinator's view of its file of MCP servers, look by look. */

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { readToolServerFile, ToolServerFile, toolServerMistakes } from "../../coordinator/src/adapters/tool-server-file.ts";
import { toolServerFindings } from "../../coordinator/src/embedded/tool-server-check.ts";

const folder = await mkdtemp(path.join(tmpdir(), "switchyard-servers-"));

const listing = (...names: string[]): string =>
  JSON.stringify({ mcpServers: Object.fromEntries(names.map((name) => [name, { command: "x", autoApprove: [] }])) });

async function opened(text: string) {
  const file = path.join(folder, "servers.json");
  await writeFile(file, text);
  const events: string[] = [];
  const told: string[][] = [];
  const log = (event: string): void => void events.push(event);
  const watched = new ToolServerFile({
    path: file,
    env: {},
    log: { info: log, warn: log, error: log },
    onChange: (servers) => told.push(servers.map(({ name }) => name)),
  });
  return { events, file, told, watched };
}

describe("the file of MCP servers", () => {
  after(() => rm(folder, { recursive: true, force: true }));

  test("mistakes name the file, and a broken one its line but nothing of its text", async () => {
    const file = path.join(folder, "broken.json");
    await writeFile(file, '{\n  "mcpServers": {\n    "a": { "env": { "TOKEN": "s3cret" "x" } }\n}}');
    assert.deepEqual(toolServerMistakes(file, {}), [`${file}: expected JSON: line 3 is wrong`]);
    await writeFile(file, `{"mcpServers": {"a": {"env": ${"[".repeat(30_000)}${"]".repeat(30_000)}}}}`);
    assert.deepEqual(toolServerMistakes(file, {}), [`${file}: expected JSON: it has more than 64 levels`]);
    await writeFile(file, '{"mcpServers": {"a": ');
    assert.match(toolServerMistakes(file, {})[0]!, /expected JSON: (it ends too early|line 1 is wrong)$/);
    assert.match(toolServerMistakes(path.join(folder, "none.json"), {})[0]!, /expected a readable file, got ENOENT/);
    await writeFile(file, '{"mcpServers": {"a": {}}}');
    assert.deepEqual(toolServerMistakes(file, {}), [`${file}: mcpServers.a: expected either command or url, got neither`]);
    await writeFile(file, '{"mcpServers": {"a": {"command": "x", "cwd": "sub"}}}');
    const place = readToolServerFile(file, {}).servers[0]?.place;
    assert.equal(place?.kind === "stdio" && place.cwd, path.join(folder, "sub"), "folders start from the file's");
  });

  test("a change is taken over when it has settled, and a broken one changes nothing and is told once", async () => {
    const { events, file, told, watched } = await opened(listing("a"));
    watched.open();
    assert.deepEqual(told, [["a"]]);
    await watched.look();
    await writeFile(file, listing("a", "b"));
    await watched.look();
    assert.equal(told.length, 1, "it may be half written");
    await watched.look();
    await watched.look();
    assert.deepEqual(told, [["a"], ["a", "b"]]);
    await writeFile(file, "{");
    for (let looks = 0; looks < 4; looks++) await watched.look();
    await rm(file);
    for (let looks = 0; looks < 4; looks++) await watched.look();
    assert.equal(told.length, 2);
    await writeFile(file, listing());
    for (let looks = 0; looks < 2; looks++) await watched.look();
    assert.deepEqual(told.at(-1), []);
    const news = events.filter((event) => event !== "mcp_servers_odd");
    assert.deepEqual(news, ["mcp_servers_read", "mcp_servers_kept", "mcp_servers_kept", "mcp_servers_read"]);
    assert.equal(events.length - news.length, 3, "a key that means nothing here, in each file that was taken over");
  });

  test("the doctor says what is wrong with the file, and what means nothing", async () => {
    const file = path.join(folder, "examined.json");
    await writeFile(file, listing("a"));
    assert.deepEqual(toolServerFindings(undefined), []);
    assert.equal(toolServerFindings(file)[0]?.state, "warning");
    await writeFile(file, '{"mcpServers": {"a": {"command": "x"}}}');
    assert.deepEqual(toolServerFindings(file), [{ subject: "mcp servers", state: "ok", found: `1 in ${file}` }]);
    await writeFile(file, "{");
    assert.equal(toolServerFindings(file)[0]?.state, "missing");
  });

  test("a file that cannot be used keeps the coordinator from starting", async () => {
    const { watched } = await opened('{"mcpServers": {"a b": {"command": "x"}, "c": {}}}');
    assert.throws(() => watched.open(), /the MCP servers cannot be used:\n.*a b: expected a name.*\n.*c: expected either command or url/);
  });
});
