/** The process of a command host: takes one command a message, and answers with what it wrote and its exit code. */

import { Readable } from "node:stream";
import { run } from "../../client-sdk/src/cli/command-line.ts";

interface Question {
  args: string[];
  env: Record<string, string>;
  input: string | Uint8Array;
}

const usual = { ...process.env };

process.on("message", async ({ args, env, input }: Question) => {
  const told = { out: "", err: "" };
  const [out, err] = [keep(process.stdout, "out"), keep(process.stderr, "err")];
  Object.defineProperty(process, "stdin", { value: Readable.from([Buffer.from(input)]), configurable: true });
  process.env = { ...usual, ...env };
  const code = await run(args).finally(() => {
    process.stdout.write = out;
    process.stderr.write = err;
  });
  process.send!({ code, ...told });

  function keep(stream: NodeJS.WriteStream, name: keyof typeof told): NodeJS.WriteStream["write"] {
    const write = stream.write;
    stream.write = (chunk: string | Uint8Array, ...more: unknown[]) => {
      told[name] += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
      const done = more.at(-1);
      if (typeof done === "function") done();
      return true;
    };
    return write;
  }
});
process.once("disconnect", () => process.exit(0));
