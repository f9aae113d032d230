/** The smoke tier: what production breaks every week, on real processes, each recipe with the checker's terms and its own limits. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Recipe } from "./recipe.ts";
import { recipes } from "./recipes/index.ts";
import { passed, resultText } from "./report.ts";
import { runRecipe } from "./run.ts";

const seed = Number(process.env.SWITCHYARD_CHAOS_SEED ?? Date.now() % 1_000_000);

/** They begin first, so that nothing long is left alone in the end; those that start many processes beside those that wait. */
const longest = ["R24", "R41", "R13", "R1", "R10", "R16", "R2", "R21"];
const place = ({ id }: Recipe): number => (longest.includes(id) ? longest.indexOf(id) : longest.length);
const smoke = recipes.filter(({ tiers }) => tiers.includes("smoke")).sort((left, right) => place(left) - place(right));

// devices sleep instead of running, so that two clusters at once leave the machine time to both
describe("chaos, smoke tier", { concurrency: 2 }, () => {
  for (const recipe of smoke) {
    test(`${recipe.id}: ${recipe.title}`, async (t) => {
      const result = await runRecipe(recipe, { tier: "smoke", seed, say: () => {} });
      t.diagnostic(resultText(result));
      assert.ok(passed(result), resultText(result));
    });
  }
});
