/** The unit tests in one process, one file after the other: nearly all of them take longer to start than to run. */

import { globSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("./unit/", import.meta.url));

for (const file of globSync("*.test.ts", { cwd: folder }).sort()) await import(new URL(`./unit/${file}`, import.meta.url).href);
