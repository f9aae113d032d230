/** KServe's own REST client, unchanged, against a whole cluster. */

import { test } from "node:test";
import { startCluster } from "../../support/cluster.ts";
import { pythonPackages } from "../../support/python-packages.ts";
import { pythonChecks } from "./python-checks.ts";
import { checkedModels } from "./repository.ts";

const packages = await pythonPackages("kserve", { withinMs: 600_000 });

test("KServe's REST client works unchanged", { skip: "missing" in packages && packages.missing }, async (context) => {
  if ("missing" in packages) return;
  const models = await checkedModels();
  context.after(() => models.remove());
  await using cluster = await startCluster({ models: models.root });
  await pythonChecks(context, { python: packages.python, program: "kserve_checks.py", url: cluster.url, models: models.names });
});
