/** npm run sim: compares policies in simulated clusters. Progress goes to a terminal only, results to standard output. */

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type PolicyName, policyNames } from "./policies.ts";
import { headLine, jsonLine, trialLine } from "./report.ts";
import { type Scenario, scenarios, type Trial, traceTrial } from "./scenarios.ts";
import { parseTrace, traceText } from "./trace-file.ts";
import { judged, oracleOf, runTrial } from "./trials.ts";

const usage = `npm run sim -- [options]

  --seed N           chance; the same seed gives the same bytes (1)
  --scenario NAME    one of them, or several divided by commas (all but large)
  --policy NAME      one of them, or several divided by commas (what the scenario compares)
  --load X           multiples of what full batches could do, divided by commas (what the scenario compares)
  --trace FILE       a trace instead of a scenario: at_ms,model,class,tenant,tenant_weight,timeout_ms,items
  --write-trace FILE the arrivals of the scenario and its first load, as such a file
  --json             one JSON object a line
  --help             this

policies: ${policyNames.join(", ")}
scenarios:
${Object.entries(scenarios)
  .map(([name, { title }]) => `  ${name.padEnd(9)} ${title}`)
  .join("\n")}
`;

function fail(message: string): never {
  process.stderr.write(`${message}\n\n${usage}`);
  process.exit(2);
}

function chosen<Name extends string>(given: string | undefined, names: readonly Name[], what: string): Name[] | undefined {
  return given?.split(",").map((name) => {
    if (!names.includes(name as Name)) fail(`no such ${what}: ${name}; there are ${names.join(", ")}`);
    return name as Name;
  });
}

function numberOf(text: string, what: string): number {
  const value = Number(text);
  if (!(value >= 0) || text.trim() === "") fail(`${what}: expected a number, got ${text}`);
  return value;
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function options() {
  try {
    return parseArgs({
      options: {
        seed: { type: "string", default: "1" },
        scenario: { type: "string" },
        policy: { type: "string" },
        load: { type: "string" },
        trace: { type: "string" },
        "write-trace": { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return fail((error as Error).message);
  }
}

const given = options();
if (given.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const seed = numberOf(given.seed, "--seed");
const names = Object.keys(scenarios) as (keyof typeof scenarios)[];
const loads = given.load?.split(",").map((text) => numberOf(text, "--load"));
const wanted = chosen(given.policy, policyNames, "policy");

function runAll(name: string, scenario: Scenario): void {
  if (!given.json) process.stdout.write(`\n${name}: ${scenario.title}\n${headLine()}\n`);
  for (const load of loads ?? scenario.loads) {
    const trial = scenario.build(seed, load);
    runOne(name, trial, load, wanted ?? scenario.policies);
  }
}

function runOne(name: string, trial: Trial, load: number, policies: readonly PolicyName[]): void {
  const oracle = oracleOf(trial);
  for (const policy of policies) {
    const onProgress = (atMs: number): void => progress(`${name}, load ${load}, ${policy}: ${Math.round((100 * atMs) / trial.untilMs)} %`);
    const result = judged({ ...trial, onProgress }, runTrial({ ...trial, onProgress }, policy), oracle, { policy, load });
    progress("");
    process.stdout.write(`${given.json ? jsonLine(name, seed, result) : trialLine(result)}\n`);
  }
}

try {
  const [first = "steady"] = chosen(given.scenario, names, "scenario") ?? [];
  if (given["write-trace"] !== undefined) {
    const scenario: Scenario = scenarios[first];
    writeFileSync(given["write-trace"], traceText(scenario.build(seed, loads?.[0] ?? (scenario.loads[0] as number)).arrivals));
  } else if (given.trace !== undefined) {
    if (!given.json) process.stdout.write(`${headLine()}\n`);
    runOne("trace", traceTrial(seed, parseTrace(readFileSync(given.trace, "utf8"))), 1, wanted ?? ["fifo-drop", "edf-drop", "fair"]);
  } else {
    for (const name of chosen(given.scenario, names, "scenario") ?? names.filter((one) => one !== "large")) runAll(name, scenarios[name]);
  }
} catch (error) {
  process.stderr.write(`seed ${seed}: ${(error as Error).stack}\n`);
  process.exitCode = 1;
}
