/** The server with the suite's fixtures, as a process of its own on a free port. */

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { serverNodeFlags } from "@switchyard/protocol/node-flags";

const file = fileURLToPath(new URL("./server.ts", import.meta.url));
const startMs = 120_000;

export interface FixtureServer extends AsyncDisposable {
  /** Of its /mcp, by the name that the suite dials. */
  url: string;
}

export async function startFixtureServer(): Promise<FixtureServer> {
  const child = spawn(process.execPath, [...serverNodeFlags, file], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = new Promise<string>((resolve, reject) => {
    const look = (chunk: Buffer): void => {
      output = `${output}${chunk}`.slice(-20_000);
      const found = /fixtures at (http:\/\/\S+)/.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    };
    for (const stream of [child.stdout, child.stderr]) stream.on("data", look);
    const late = setTimeout(() => reject(new Error(`the fixture server did not start:\n${output}`)), startMs);
    void exited.then(() => reject(new Error(`the fixture server ended:\n${output}`))).finally(() => clearTimeout(late));
  });
  const end = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exited;
  };
  try {
    return { url: await url, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}
