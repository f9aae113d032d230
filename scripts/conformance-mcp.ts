/**
 * npm run conformance:mcp: the official suite of the Model Context Protocol against what serves /mcp and what calls upstream servers here, the official
 * inspector and an independent client against a cluster, and official servers behind one. Foreign programs are installed first, into the cache;
 * what cannot be had is told and skipped. Ends with a table; the exit code is 1 when anything failed.
 */

import { parseArgs } from "node:util";
import { independentClient } from "../test/conformance/mcp/ai-sdk.ts";
import { type FixtureServer, startFixtureServer } from "../test/conformance/mcp/fixture-process.ts";
import { inspected } from "../test/conformance/mcp/inspector.ts";
import { type Outcome, skippedPart, tableOf } from "../test/conformance/mcp/outcome.ts";
import { installPeers, type Peers } from "../test/conformance/mcp/peers.ts";
import { clientSide, httpScenarios, revisions, serverScenario, serverSide, taskScenarios } from "../test/conformance/mcp/suite.ts";
import { upstreamServers } from "../test/conformance/mcp/upstreams.ts";
import { startCluster } from "../test/support/cluster.ts";

interface Part {
  what: string;
  run(peers: Peers): Promise<Outcome[]>;
}

let fixtures: Promise<FixtureServer> | undefined;

/** One server for all parts that look at it. */
const withFixtures = async (use: (url: string) => Promise<Outcome[]>): Promise<Outcome[]> => {
  fixtures ??= startFixtureServer();
  return await use((await fixtures).url);
};

const withCluster = async (use: (url: string) => Promise<Outcome[]>): Promise<Outcome[]> => {
  await using cluster = await startCluster();
  return await use(cluster.url);
};

/** One after the other: they look at the same server's lists. */
const inTurn = async (scenarios: readonly string[], run: (scenario: string) => Promise<Outcome>): Promise<Outcome[]> => {
  const outcomes: Outcome[] = [];
  for (const scenario of scenarios) outcomes.push(await run(scenario));
  return outcomes;
};

const parts: Record<string, Part> = {
  ...Object.fromEntries(
    revisions.map((revision): [string, Part] => [
      `server-${revision}`,
      {
        what: `the official suite against /mcp, all that ${revision} requires`,
        run: (peers) => withFixtures(async (url) => [await serverSide(peers, url, revision)]),
      },
    ]),
  ),
  tasks: {
    what: "the official suite's tasks-* scenarios, with jobs that are queued and run",
    run: (peers) => withFixtures((url) => inTurn(taskScenarios, (scenario) => serverScenario(peers, url, { part: "tasks", scenario }))),
  },
  http: {
    what: `the official suite's ${httpScenarios.join(" and ")}`,
    run: (peers) => withFixtures((url) => inTurn(httpScenarios, (scenario) => serverScenario(peers, url, { part: "http", scenario }))),
  },
  ...Object.fromEntries(
    revisions.map((revision): [string, Part] => [
      `client-${revision}`,
      {
        what: `the official suite against the client of upstream servers, all that ${revision} requires`,
        run: async (peers) => [await clientSide(peers, revision)],
      },
    ]),
  ),
  inspector: {
    what: "the official inspector, strict, in both eras, against a cluster",
    run: (peers) => withCluster((url) => inspected(peers, url)),
  },
  "ai-sdk": {
    what: "@ai-sdk/mcp, which does not use the official library, against a cluster",
    run: (peers) => withCluster(async (url) => [await independentClient(peers, url)]),
  },
  upstreams: { what: "official servers and a database server behind a cluster", run: upstreamServers },
};

const usage = `npm run conformance:mcp [-- --only PART …]

${Object.entries(parts)
  .map(([name, { what }]) => `  ${name.padEnd(18)} ${what}`)
  .join("\n")}`;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { only: { type: "string", multiple: true }, help: { type: "boolean", default: false } } });
  if (values.help) return console.log(usage);
  const wanted = values.only ?? Object.keys(parts);
  const unknown = wanted.find((name) => parts[name] === undefined);
  if (unknown !== undefined) throw new Error(`--only: expected one of ${Object.keys(parts).join(", ")}; got ${unknown}\n\n${usage}`);
  console.log("peers: looking for them, installing them if there are none …");
  const peers = await installPeers();
  if ("missing" in peers) console.log(`peers: SKIPPED, ${peers.missing}`);
  const outcomes: Outcome[] = [];
  for (const name of wanted) {
    const { what, run } = parts[name]!;
    console.log(`\n${name}: ${what} …`);
    const came =
      "missing" in peers ? [skippedPart(name, what, peers.missing)] : await run(peers).catch((error: unknown) => [brokenPart(name, error)]);
    for (const outcome of came) {
      console.log(`  ${outcome.what}: ${outcome.passed} passed, ${outcome.failed} failed, ${outcome.skipped} skipped`);
      for (const line of outcome.why) console.log(`    ${line}`);
    }
    outcomes.push(...came);
  }
  await (await fixtures?.catch(() => undefined))?.[Symbol.asyncDispose]();
  console.log(`\n${tableOf(outcomes)}`);
  if (outcomes.some(({ failed }) => failed > 0)) process.exitCode = 1;
}

function brokenPart(part: string, error: unknown): Outcome {
  const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { part, what: "it did not come to its end", passed: 0, failed: 1, skipped: 0, why: [why] };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
await main().catch((error: unknown) => {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
});
