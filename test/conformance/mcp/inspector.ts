/** The official inspector's command line, strict, in both eras, against a cluster as users start it. */

import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { type Outcome, Tally } from "./outcome.ts";
import type { Peers } from "./peers.ts";
import { runNode } from "./suite.ts";

/** Where the inspector would keep what it remembers of servers. */
const env = { ...process.env, MCP_STORAGE_DIR: tmpdir(), MCP_INSPECTOR_SECRET_STORE: "file" };
const eras = ["modern", "legacy"] as const;

interface Ask {
  method: string;
  args?: string[];
  /** Throws when the answer is not what was asked for. */
  check: (answer: Record<string, unknown>) => void;
}

const image = Array.from({ length: 64 }, (_, index) => index % 16);

const asks: Ask[] = [
  {
    method: "tools/list",
    args: ["--strict"],
    check({ tools }) {
      const names = (tools as { name: string }[]).map(({ name }) => name);
      for (const name of ["infer_digits", "models_search", "infer", "job_submit", "job_get", "job_wait", "job_cancel"])
        assert.ok(names.includes(name), `no tool ${name} among ${names.join(", ")}`);
    },
  },
  {
    method: "tools/call",
    args: ["--tool-name", "infer_digits", "--tool-args-json", JSON.stringify({ inputs: { image: [image] } })],
    check({ structuredContent, isError }) {
      assert.notEqual(isError, true);
      assert.equal((structuredContent as { model: string }).model, "digits");
    },
  },
  {
    method: "tools/call",
    args: ["--tool-name", "models_search", "--tool-args-json", "{}"],
    check: ({ structuredContent }) => assert.match(JSON.stringify(structuredContent), /digits/),
  },
  { method: "resources/list", check: ({ resources }) => assert.match(JSON.stringify(resources), /switchyard:\/\/models/) },
  { method: "resources/templates/list", check: ({ resourceTemplates }) => assert.ok((resourceTemplates as unknown[]).length > 0) },
  {
    method: "resources/read",
    args: ["--uri", "switchyard://models"],
    check: ({ contents }) => assert.match(JSON.stringify(contents), /digits/),
  },
  { method: "prompts/list", check: ({ prompts }) => assert.equal((prompts as unknown[]).length, 3) },
];

export async function inspected(peers: Peers, url: string): Promise<Outcome[]> {
  const program = peers.file("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
  const outcomes: Outcome[] = [];
  for (const era of eras) {
    const tally = new Tally("inspector", `inspector, ${era}, --strict`);
    for (const { method, args = [], check } of asks) {
      await tally.check([method, ...args].join(" ").slice(0, 60), async () => {
        const command = ["--cli", `${url}/mcp`, "--protocol-era", era, "--method", method, ...args, "--format", "json", "-q"];
        const { code, output, stdout } = await runNode([program, ...command], tmpdir(), env);
        assert.equal(code, 0, `exit code ${code}: ${output.trim().slice(-500)}`);
        const { result } = JSON.parse(stdout) as { result: Record<string, unknown> };
        check(result);
      });
    }
    outcomes.push(tally.outcome);
  }
  return outcomes;
}
