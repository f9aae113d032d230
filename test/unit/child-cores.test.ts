import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { test } from "node:test";
import { allowedCores, coresIn } from "../../coordinator/src/embedded/core-pair.ts";

const hasTaskset = spawnSync("taskset", ["--version"]).status === 0;
const skip = process.platform !== "linux" ? "Linux only" : !hasTaskset ? "needs taskset" : allowedCores().length < 2 && "needs two cores";

test("a child of a process that was kept to a core, and its threads, may use what the process could at its start", { skip }, () => {
  const two = allowedCores().slice(0, 2);
  const cores = new URL("../../coordinator/src/adapters/child-cores.ts", import.meta.url).href;
  const program = `
    import { execFileSync, spawn } from "node:child_process";
    import { readdirSync, readFileSync } from "node:fs";
    import { freeChild } from ${JSON.stringify(cores)};
    const threadsOf = (pid) => readdirSync("/proc/" + pid + "/task")
      .map((id) => /^Cpus_allowed_list:\\s*(\\S+)/m.exec(readFileSync("/proc/" + pid + "/task/" + id + "/status", "utf8"))[1]);
    const isReady = (child) => new Promise((resolve) => child.stdout.once("data", resolve));
    const start = async () => {
      const child = spawn(process.execPath, ["-e", "console.log(1); setTimeout(() => {}, 60_000)"]);
      await isReady(child);
      return child;
    };
    execFileSync("taskset", ["-p", "-c", ${JSON.stringify(String(two[1]))}, String(process.pid)]);
    const [left, freed] = [await start(), await start()];
    freeChild(freed.pid);
    const late = Date.now() + 20_000;
    while (threadsOf(freed.pid).some((list) => list === threadsOf(left.pid)[0]) && Date.now() < late) await new Promise((resolve) => setTimeout(resolve, 10));
    console.log(JSON.stringify({ left: threadsOf(left.pid), freed: threadsOf(freed.pid) }));
    left.kill("SIGKILL");
    freed.kill("SIGKILL");`;
  const said = execFileSync("taskset", ["-c", String(two), process.execPath, "--input-type=module", "--eval", program], {
    encoding: "utf8",
  });
  const { freed, left } = JSON.parse(said) as { freed: string[]; left: string[] };
  assert.ok(freed.length > 4);
  for (const list of freed) assert.deepEqual(coresIn(list), two);
  for (const list of left) assert.deepEqual(coresIn(list), [two[1]], "without more it stays where its parent was");
});
