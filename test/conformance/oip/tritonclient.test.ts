/** The official tritonclient over HTTP and gRPC, unchanged, against a whole cluster. */

import { test } from "node:test";
import { startCluster } from "../../support/cluster.ts";
import { pythonPackages } from "../../support/python-packages.ts";
import { pythonChecks } from "./python-checks.ts";
import { checkedModels } from "./repository.ts";

const packages = await pythonPackages("tritonclient", { withinMs: 300_000 });

test("tritonclient works unchanged", { skip: "missing" in packages && packages.missing }, async (context) => {
  if ("missing" in packages) return;
  const models = await checkedModels();
  context.after(() => models.remove());
  await using cluster = await startCluster({ models: models.root });
  for (const [way, program] of [
    ["HTTP", "tritonclient_checks.py"],
    ["gRPC", "tritonclient_grpc_checks.py"],
  ] as const) {
    await context.test(`over ${way}`, async (part) => {
      const { url, grpc } = cluster;
      await pythonChecks(part, { python: packages.python, program, url, grpc, models: models.names });
    });
  }
});
