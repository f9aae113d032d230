/** Runs one recipe from its first process to its verdict. */

import type { Recipe, RecipeContext } from "./recipe.ts";
import type { Result } from "./report.ts";

export async function runRecipe(recipe: Recipe, context: RecipeContext): Promise<Result> {
  const startedMs = performance.now();
  const { seed, tier } = context;
  const about = { recipe, context: { seed, tier } };
  try {
    const course = await recipe.run(context);
    return { ...about, course, seconds: (performance.now() - startedMs) / 1000 };
  } catch (error) {
    const failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ...about, course: undefined, failure, seconds: (performance.now() - startedMs) / 1000 };
  }
}
