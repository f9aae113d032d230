/** What promtool says of rules, of their tests, of the configuration, and of the pages that coordinators and workers serve. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { prometheusMetrics } from "../../coordinator/src/adapters/prometheus-metrics.ts";
import { alertRules } from "../../deploy/observability/rules.ts";
import { HostMetrics } from "../../worker/src/host-metrics.ts";
import { findPrometheus, promtool, rulesFile } from "../support/prometheus.ts";

const programs = await findPrometheus();
const skip = typeof programs === "string" ? programs : false;
const fileOf = (path: string): string => fileURLToPath(new URL(`../../deploy/prometheus/${path}`, import.meta.url));

async function run(args: readonly string[], input?: string): Promise<{ code: number | null; output: string }> {
  assert.ok(typeof programs !== "string");
  return promtool(programs, args, input);
}

test("promtool accepts the configuration and the rules", { skip }, async () => {
  const [config, rules] = await Promise.all([run(["check", "config", fileOf("prometheus.yml")]), run(["check", "rules", rulesFile])]);
  assert.equal(config.code, 0, config.output);
  assert.equal(rules.code, 0, rules.output);
  assert.match(rules.output, /SUCCESS: \d\d+ rules found/);
});

test("each alert fires when it should, and does not when it should not", { skip }, async () => {
  const paces = ["minutes", "hours"].map((pace) => run(["test", "rules", fileOf(`tests/switchyard-${pace}.yml`)]));
  for (const { code, output } of await Promise.all(paces)) {
    assert.equal(code, 0, output);
    assert.equal(output.match(/SUCCESS/g)?.length, 1, output);
  }
  assert.ok(alertRules.length >= 20, `only ${alertRules.length} alerts`);
});

/** What promtool says against names that are not ours. */
const accepted = [
  {
    pattern: /^nodejs_active_(handles|requests|resources)_total non-counter metrics should not have "_total" suffix$/,
    why: "prom-client's own",
  },
];

test("promtool finds nothing wrong with what coordinators and workers export", { skip }, async () => {
  const coordinator = prometheusMetrics({ version: "1", classic: true });
  coordinator.modelKnown("digits");
  coordinator.leading(true);
  coordinator.admitted("digits", "standard");
  coordinator.rejected("digits", "standard", "queue_full", "red");
  coordinator.finished("digits", "standard", "expired", { e2eSeconds: 1, queueSeconds: 1, missed: true, tenant: "red", deviceSeconds: 1 });
  coordinator.toolServerKnown("results");
  coordinator.toolCalled("results", "ok", 0.1);
  coordinator.httpAnswered("/v1/jobs", "POST", 202, 0.1);
  const worker = new HostMetrics({ version: "1", host: "one", classic: true });
  worker.modelLoaded(undefined, 10);
  let judged = 0;
  for (const page of [await coordinator.text(), await worker.text()]) {
    const { output } = await run(["check", "metrics"], page);
    const complaints = output.split("\n").filter((line) => line.trim() !== "");
    judged += page.split("\n").filter((line) => line.startsWith("# TYPE")).length;
    assert.deepEqual(
      complaints.filter((line) => !accepted.some(({ pattern }) => pattern.test(line))),
      [],
    );
  }
  assert.ok(judged > 60, `only ${judged} families were judged`);
});
