/** KServe's own REST and gRPC clients, unchanged, against a whole cluster. */

import { test } from "node:test";
import { startCluster } from "../../support/cluster.ts";
import { pythonPackages } from "../../support/python-packages.ts";
import { pythonChecks } from "./python-checks.ts";
import { checkedModels } from "./repository.ts";

const packages = await pythonPackages("kserve", { withinMs: 600_000 });

test("KServe's clients work unchanged", { skip: "missing" in packages && packages.missing }, async (context) => {
  if ("missing" in packages) return;
  const models = await checkedModels();
  context.after(() => models.remove());
  await using cluster = await startCluster({ models: models.root });
  for (const [way, program] of [
    ["HTTP", "kserve_checks.py"],
    ["gRPC", "kserve_grpc_checks.py"],
  ] as const) {
    await context.test(`over ${way}`, async (part) => {
      const { url, grpc } = cluster;
      await pythonChecks(part, { python: packages.python, program, url, grpc, models: models.names });
    });
  }
});
