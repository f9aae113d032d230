/**
 * npm run conformance:oip: foreign clients and a foreign server of the Open Inference Protocol, unchanged, with a whole cluster, and every
 * recorded ONNX case.
 * Clients are installed first, because a package index may take minutes that no test should count. What is missing is told.
 */

import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { grpcurl } from "../test/support/grpcurl.ts";
import { perfAnalyzer } from "../test/support/perf-analyzer.ts";
import { pythonPackages } from "../test/support/python-packages.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const clients = { tritonclient: 300_000, kserve: 600_000, mlserver: 600_000 } as const;

for (const [name, withinMs] of Object.entries(clients)) {
  console.log(`${name}: looking for its environment, installing it if there is none …`);
  const packages = await pythonPackages(name, { withinMs });
  console.log("missing" in packages ? `${name}: SKIPPED, ${packages.missing}` : `${name}: ${packages.python}`);
}
for (const [name, fetched] of [
  ["perf_analyzer", perfAnalyzer],
  ["grpcurl", grpcurl],
] as const) {
  const found = await fetched();
  console.log(`${name}: ${"missing" in found ? `SKIPPED, ${found.missing}` : "there"}`);
}
if (process.env.SWITCHYARD_TEST_MODELS === undefined) {
  console.log("SWITCHYARD_TEST_MODELS is not set: the example models of tritonclient and the recorded ONNX cases are SKIPPED.");
}
const files = globSync("test/conformance/oip/*.test.ts", { cwd: root }).sort();
const options = ["--test", "--test-concurrency=1", "--test-timeout=600000", "--test-reporter=spec"];
const child = spawn(process.execPath, [...options, ...files], { cwd: root, stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
child.once("exit", (code) => {
  process.exitCode = code ?? 1;
});
