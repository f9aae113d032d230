/** npm run chaos: breaks real clusters in the ways that production does, and judges what became of every job. */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type Tier, tiers } from "./recipe.ts";
import { recipes } from "./recipes/index.ts";
import { passed, type Result, resultJson, resultText, tableLine } from "./report.ts";
import { runRecipe } from "./run.ts";

const usage = `npm run chaos -- [options]

  --tier NAME      ${tiers.join(", ")} (smoke)
  --recipe LIST    only these, divided by commas, in the lengths of the tier
  --seed N         chance; the same seed makes the same schedule (a new one, printed)
  --json FILE      the results as JSON
  --table          the results as a table in Markdown, in the end
  --help           this

recipes:
${recipes.map(({ id, title, tiers: of }) => `  ${id.padEnd(4)} ${title} (${of.join(", ")})`).join("\n")}
`;

function fail(message: string): never {
  process.stderr.write(`${message}\n\n${usage}`);
  process.exit(2);
}

function optionsOf() {
  try {
    return parseArgs({
      options: {
        tier: { type: "string" },
        recipe: { type: "string" },
        seed: { type: "string" },
        json: { type: "string" },
        table: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    return fail((error as Error).message);
  }
}

const given = optionsOf();
if (given.help) {
  process.stdout.write(usage);
  process.exit(0);
}
if (given.tier !== undefined && !tiers.includes(given.tier as Tier)) fail(`--tier: expected ${tiers.join(", ")}, got ${given.tier}`);
const seed = Number(given.seed ?? Date.now() % 1_000_000);
if (!Number.isInteger(seed) || seed < 0) fail(`--seed: expected a whole number, got ${given.seed}`);
const named = given.recipe?.split(",");
for (const name of named ?? []) if (!recipes.some(({ id }) => id === name)) fail(`--recipe: there is no ${name}`);
const tier = (given.tier as Tier | undefined) ?? "smoke";
// a recipe that is asked for by name runs in any tier: each knows its lengths in all of them
const chosen = recipes.filter(({ id, tiers: of }) => (named ? named.includes(id) : of.includes(tier)));

const results: Result[] = [];
process.stdout.write(`seed ${seed}\n`);
let skipped = 0;
for (const recipe of chosen) {
  process.stdout.write(`${recipe.id} ${recipe.title}\n`);
  if (recipe.skip !== undefined) {
    process.stdout.write(`skip ${recipe.id}: ${recipe.skip}\n`);
    skipped++;
    continue;
  }
  const context = { tier, seed, say: (line: string) => void process.stdout.write(`${line}\n`) };
  const result = await runRecipe(recipe, context);
  results.push(result);
  process.stdout.write(`${resultText(result)}\n`);
}
const bad = results.filter((result) => !passed(result));
process.stdout.write(`${results.length - bad.length} of ${results.length} recipes passed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
if (given.table) process.stdout.write(`${results.map(tableLine).join("\n")}\n`);
if (given.json !== undefined) writeFileSync(given.json, `${JSON.stringify(results.map(resultJson), undefined, 1)}\n`);
process.exit(bad.length === 0 && results.length > 0 ? 0 : 1);
