/**
 * A real Prometheus for tests, and its promtool: those on PATH, else the distribution's package, unpacked into the cache. Where there is neither, the
 * reason is told, so that tests can say why they skip.
 */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { canFetchDebianPackages, fetchDebianPackages } from "../../coordinator/src/embedded/debian-packages.ts";
import { createLifeline, freePort } from "../../coordinator/src/embedded/redis-server.ts";
import { testRedisCache } from "./redis.ts";
import { until } from "./until.ts";

export interface PrometheusPrograms {
  prometheus: string;
  promtool: string;
}

const names = ["prometheus", "promtool"] as const;
export const rulesFile = fileURLToPath(new URL("../../deploy/prometheus/rules/switchyard.yml", import.meta.url));

/** The programs, or why there are none. Never throws. */
export async function findPrometheus(): Promise<PrometheusPrograms | string> {
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const onPath = (name: string): string | undefined => folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
  const [prometheus, promtool] = names.map(onPath);
  if (prometheus && promtool) return { prometheus, promtool };
  if (!canFetchDebianPackages()) return "prometheus and promtool are not on PATH, and this machine has no apt-get to fetch them with";
  try {
    const fetched = await fetchDebianPackages({ packages: ["prometheus"], programs: ["prometheus"], cacheFolder: testRedisCache });
    return { prometheus: fetched.binary("prometheus"), promtool: fetched.binary("promtool") };
  } catch (error) {
    return `prometheus and promtool could not be fetched: ${(error as Error).message}`;
  }
}

/** Exit code and both outputs of promtool. */
export function promtool(
  { promtool: file }: PrometheusPrograms,
  args: readonly string[],
  input?: string,
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, [...args], { stdio: ["pipe", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += String(chunk);
      });
    }
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
    child.stdin.on("error", () => {}); // one that ends early says why
    child.stdin.end(input ?? "");
  });
}

export interface RunningPrometheus extends AsyncDisposable {
  url: string;
  log(): string;
}

/** Reads the pages of every target once a second, by job, and evaluates the rules of deploy/ as often. Ends with the test, and with its process. */
export async function startPrometheus(
  programs: PrometheusPrograms,
  targets: Readonly<Record<string, readonly string[]>>,
): Promise<RunningPrometheus> {
  const folder = await mkdtemp(path.join(tmpdir(), "switchyard-prometheus-"));
  const port = await freePort();
  const jobs = Object.entries(targets).map(([job, places]) => ({ job_name: job, static_configs: [{ targets: places }] }));
  const config = {
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    rule_files: [rulesFile],
    scrape_configs: jobs,
  };
  const file = path.join(folder, "prometheus.yml");
  await writeFile(file, stringify(config));
  const args = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${path.join(folder, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
    "--enable-feature=exemplar-storage",
    "--log.level=warn",
  ];
  const child = spawn(programs.prometheus, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const lifeline = createLifeline();
  if (child.pid !== undefined) lifeline.guard(child.pid);
  const exited = new Promise<void>((resolve) => {
    child.once("error", () => resolve());
    child.once("exit", () => resolve());
  });
  const output: string[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => output.push(String(chunk)));
  const url = `http://127.0.0.1:${port}`;
  const log = (): string => output.join("");
  const end = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exited;
    lifeline.close();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until("Prometheus to be ready", async () => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok, { show: log });
  } catch (error) {
    await end();
    throw error;
  }
  return { url, log, [Symbol.asyncDispose]: end };
}
