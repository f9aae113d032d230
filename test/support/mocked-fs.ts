/** Calls of the file system that do otherwise for one test. */

import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import type { TestContext } from "node:test";

type Call = "writevSync" | "readSync" | "linkSync" | "unlinkSync" | "ftruncateSync" | "statfs";

/** `statfs` is that of promises. */
export function mocked(context: TestContext, name: Call, replace: (real: (...args: never[]) => unknown) => unknown): void {
  const where = (name === "statfs" ? fs.promises : fs) as unknown as Record<string, (...args: never[]) => unknown>;
  const mock = context.mock.method(where, name, replace(where[name]!.bind(where)) as () => unknown);
  syncBuiltinESMExports();
  context.after(() => {
    mock.mock.restore();
    syncBuiltinESMExports();
  });
}
