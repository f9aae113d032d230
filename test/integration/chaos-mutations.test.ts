/** With a guarantee taken out of the running system, a recipe turns red, and by the term that the guarantee is for. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Mutation } from "../chaos/mutation.ts";
import type { Recipe } from "../chaos/recipe.ts";
import { frozenHost } from "../chaos/recipes/r02-frozen-host.ts";
import { killedCoordinator } from "../chaos/recipes/r21-killed-coordinator.ts";
import { passed, resultText } from "../chaos/report.ts";
import { runRecipe } from "../chaos/run.ts";

const cases: { mutation: Mutation; recipe: Recipe; term: "duplicated" | "stuck" | "unexpected" | "lost" }[] = [
  { mutation: "fence", recipe: frozenHost, term: "duplicated" },
  { mutation: "sweeper", recipe: frozenHost, term: "stuck" },
  { mutation: "idempotency", recipe: killedCoordinator, term: "unexpected" },
  { mutation: "minute", recipe: killedCoordinator, term: "lost" },
];

const tries = 4;

describe("chaos, without one guarantee", { concurrency: 2 }, () => {
  for (const { mutation, recipe, term } of cases) {
    test(`without the ${mutation}, ${recipe.id} finds what is ${term}`, async (t) => {
      // which of its threads a woken host hears first is chance: what is not guarded any more need not go wrong each time
      const texts: string[] = [];
      for (let seed = 1; seed <= tries; seed++) {
        const result = await runRecipe(recipe, { tier: "smoke", seed, mutation, say: () => {} });
        if (result.course && result.course.verdict.violations[term].length > 0) return assert.ok(!passed(result));
        texts.push(resultText(result));
        t.diagnostic(resultText(result));
      }
      assert.fail(`the suite saw nothing that is ${term}:\n${texts.join("\n")}`);
    });
  }
});
