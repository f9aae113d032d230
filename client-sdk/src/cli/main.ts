/** The `switchyard` process. Keeps compiled code between starts, which halves the time until a command does something. */

import { enableCompileCache } from "node:module";

enableCompileCache();

// A reader that closes early (`| head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const { run } = await import("./command-line.ts");
process.exitCode = await run(process.argv.slice(2));
