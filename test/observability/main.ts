/**
 * npm run verify:dashboards -- http://127.0.0.1:9090 [--seconds 3600] [--rate-interval 1m]
 * Asks every query of the dashboards and rules of a Prometheus that runs, and names those that answer nothing there.
 */

import { parseArgs } from "node:util";
import { verifyDashboards } from "./verify.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "3600" }, "rate-interval": { type: "string", default: "1m" } },
});
const [prometheus] = positionals;
const seconds = Number(values.seconds);
if (prometheus === undefined || URL.parse(prometheus) === null || !(seconds > 0) || seconds > 11_000) {
  process.stderr.write("npm run verify:dashboards -- <address of Prometheus> [--seconds 3600, at most 11000] [--rate-interval 1m]\n");
  process.exit(2);
}
try {
  const verdict = await verifyDashboards(prometheus.replace(/\/$/, ""), { seconds, rateInterval: values["rate-interval"] });
  for (const line of verdict.skipped) console.log(`empty, and may be: ${line}`);
  for (const line of verdict.problems) console.log(`PROBLEM: ${line}`);
  const { dashboards, panels, problems, queries, rules } = verdict;
  console.log(`${dashboards} dashboards, ${panels} panels, ${queries} queries, ${rules} rules: ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
} catch (error) {
  process.stderr.write(`Prometheus at ${prometheus} does not answer: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
