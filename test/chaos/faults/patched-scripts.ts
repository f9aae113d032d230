/** Other rules in the scripts that a process loads; for preloads, before the process reads any of them. */

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** `patch` gets a script's file name and text; what it gives back is loaded. */
export function patchScripts(patch: (name: string, text: string) => string): void {
  const read = fs.readFileSync;
  fs.readFileSync = ((file: string | URL, ...how: [BufferEncoding]) => {
    const text = read(file, ...how) as unknown;
    const name = String(file).split("/").at(-1)!;
    return typeof text === "string" && name.endsWith(".lua") ? patch(name, text) : text;
  }) as typeof fs.readFileSync;
  syncBuiltinESMExports();
}
