/**
 * Runs what the guides tell to run: each page's sh, ts and python blocks, in order, in one shell, in a folder that looks like a clone, against
 * a real `switchyard up` on free ports. A block that cannot run says why in a comment before it. Pages run side by side, as their readers would:
 * files and models that a page makes are its own.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Processes, startProcesses } from "../support/processes.ts";
import { pythonPackages } from "../support/python-packages.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const languages = new Set(["sh", "ts", "python"]);
/** Shown, not run. */
const shown = new Set(["console", "text", "mermaid", "json", "yaml", ""]);

interface Block {
  language: string;
  text: string;
  line: number;
  notRun: string | undefined;
}

function blocksOf(page: string): Block[] {
  const found = [...page.matchAll(/(?:<!-- not run: (.+?) -->\n)?^```(\w*)\n([\s\S]*?)^```$/gm)];
  return found.map(([whole, notRun, language, text], at) => {
    const line = page.slice(0, found[at]!.index + whole.indexOf("```")).split("\n").length;
    return { language: language!, text: text!, line, notRun };
  });
}

let clone: string;
let cluster: Cluster;
/** Another coordinator of it, which takes keys from keys.yaml in the clone. */
let guarded: Processes;

before(async () => {
  clone = await mkdtemp(path.join(tmpdir(), "switchyard-docs-"));
  await cp(path.join(root, "models"), path.join(clone, "models"), { recursive: true });
  for (const name of ["examples", "node_modules"]) await symlink(path.join(root, name), path.join(clone, name));
  await writeFile(path.join(clone, "package.json"), '{"type": "module", "private": true}');
  const serverFile = path.join(clone, "mcp-servers.json");
  await writeFile(serverFile, '{"mcpServers": {}}');
  const keyFile = path.join(clone, "keys.yaml");
  await writeFile(keyFile, "[]");
  const models = path.join(clone, "models");
  cluster = await startCluster({ models, env: { SWITCHYARD_MCP_SERVERS: serverFile } });
  const env = { SWITCHYARD_REDIS_URL: cluster.redisUrl, SWITCHYARD_DATA: cluster.dataFolder, SWITCHYARD_API_KEYS: keyFile };
  guarded = await startProcesses({ workers: 0, models, env });
  await symlink(cluster.dataFolder, path.join(clone, ".switchyard"));
});

after(async () => {
  await guarded?.stop();
  await cluster?.stop();
  await rm(clone, { recursive: true, force: true });
});

interface Place {
  url: string;
  /** host:port of its gRPC. */
  grpc: string;
  log(): string;
}

interface Run {
  output: string;
  code: number | null;
  /** Lines of the blocks that ran to their end. */
  ended: Set<number>;
}

/** One shell for the whole page, so that what one block sets the next one has. */
async function runPage(name: string, blocks: readonly Block[], of: { python: string; url: string; grpc: string }): Promise<Run> {
  const { python, url, grpc } = of;
  const folder = path.join(clone, `blocks-${path.basename(name, ".md")}`);
  await mkdir(folder);
  const script = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"];
  for (const { language, text, line } of blocks) {
    const here = text
      .replaceAll("http://127.0.0.1:8000", url)
      .replaceAll("127.0.0.1:8000", new URL(url).host)
      .replaceAll("127.0.0.1:8001", grpc);
    if (language === "sh") script.push(here.replaceAll("npx switchyard", "switchyard"));
    else {
      const file = path.join(folder, `line-${line}.${language === "ts" ? "ts" : "py"}`);
      await writeFile(file, here);
      script.push(`"${language === "ts" ? process.execPath : python}" "${file}"`);
    }
    script.push(`printf "\\n@@ended ${line}\\n"`);
  }
  const env = {
    ...process.env,
    PATH: `${path.join(root, "node_modules/.bin")}${path.delimiter}${process.env.PATH}`,
    SWITCHYARD_URL: url,
  };
  const child = spawn("bash", ["-c", script.join("\n")], { cwd: clone, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += chunk;
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { output, code, ended: new Set([...output.matchAll(/^@@ended (\d+)$/gm)].map(([, line]) => Number(line))) };
}

const open = (): Place => cluster;
const withKeys = (): Place => ({ url: guarded.url, grpc: guarded.coordinators[0]!.grpc, log: guarded.log });

/** The longest first: it runs beside all others. */
const pages = [
  { name: "docs/getting-started.md", least: 10, place: open },
  { name: "docs/models.md", least: 5, place: open },
  { name: "docs/access.md", least: 6, place: withKeys },
  { name: "docs/mcp-servers.md", least: 4, place: open },
  { name: "docs/batch.md", least: 3, place: open },
  { name: "README.md", least: 2, place: open },
  { name: "docs/hosts.md", least: 2, place: open },
  { name: "docs/grpc.md", least: 2, place: open },
  { name: "docs/mcp.md", least: 1, place: open },
  { name: "docs/oip-http.md", least: 3, place: open },
  { name: "docs/console.md", least: 1, place: open },
  { name: "docs/tracing.md", least: 2, place: open },
];
describe("the commands work as written", { concurrency: 4 }, () => {
  for (const { name, least, place } of pages) {
    test(`in ${name}`, async (context) => {
      const blocks = blocksOf(await readFile(path.join(root, name), "utf8"));
      const unknown = blocks.filter(({ language }) => !languages.has(language) && !shown.has(language));
      assert.deepEqual(unknown, [], "this test knows how to run sh, ts and python");
      const runnable = blocks.filter(({ language, notRun }) => languages.has(language) && notRun === undefined);
      assert.ok(runnable.length >= least, `only ${runnable.length} blocks are run`);
      const hasCurl = spawnSync("curl", ["--version"]).error === undefined;
      const wantsPython = runnable.some(({ language }) => language === "python");
      const packages = wantsPython ? await pythonPackages("tritonclient", { withinMs: 120_000 }) : { missing: "not asked for" };
      const whyNot = ({ language, text }: Block): string | undefined => {
        if (language === "python" && "missing" in packages) return packages.missing;
        return text.includes("curl ") && !hasCurl ? "curl is not installed" : undefined;
      };
      const possible = runnable.filter((block) => whyNot(block) === undefined);
      const python = "python" in packages ? packages.python : "python3";
      const run = await runPage(name, possible, { ...place(), python });
      for (const block of runnable) {
        const { language, line } = block;
        await context.test(`line ${line}, ${language}`, { skip: whyNot(block) ?? false }, () => {
          assert.ok(run.ended.has(line), `the page ended with ${run.code} before this block did:\n${run.output}\n${place().log()}`);
        });
      }
    });
  }
});
