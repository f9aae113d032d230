/** tritonclient and KServe's client, unchanged, over HTTP and gRPC, each against a whole cluster; and what Triton's own tests say of a server. */

import { test } from "node:test";
import { startCluster } from "../../support/cluster.ts";
import { pythonPackages } from "../../support/python-packages.ts";
import { pythonChecks, ways } from "./python-checks.ts";
import { checkedModels } from "./repository.ts";

for (const { title, list, withinMs, program } of [
  { title: "tritonclient works unchanged", list: "tritonclient", withinMs: 300_000, program: "tritonclient_checks.py" },
  { title: "the server behaves as Triton's tests describe it", list: "tritonclient", withinMs: 300_000, program: "triton_behaviours.py" },
  { title: "KServe's clients work unchanged", list: "kserve", withinMs: 600_000, program: "kserve_checks.py" },
]) {
  const packages = await pythonPackages(list, { withinMs });
  test(title, { skip: "missing" in packages && packages.missing }, async (context) => {
    if ("missing" in packages) return;
    const models = await checkedModels();
    context.after(() => models.remove());
    await using cluster = await startCluster({ models: models.root });
    const { url, grpc } = cluster;
    for (const way of ways) {
      await context.test(`over ${way}`, (part) =>
        pythonChecks(part, { python: packages.python, program, way, url, grpc, models: models.names }),
      );
    }
  });
}
