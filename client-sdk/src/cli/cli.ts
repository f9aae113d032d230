/** What every command is given: streams, the client for the address and key of the command line, and where its exit code goes. */

import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { Switchyard, serverOf } from "../client.ts";
import { type Clock, systemClock } from "../clock.ts";
import type { RetryOptions } from "../retry-policy.ts";
import { type ExitCode, UsageError } from "./exit-codes.ts";
import { inheritedTrace } from "./inherited-trace.ts";

export interface GlobalOptions {
  url?: string;
  apiKey?: string;
  json?: boolean;
}

export class Cli {
  readonly clock: Clock = systemClock;
  exitCode: ExitCode = 0;

  /** Whether a person watches: progress is for them alone. */
  get hasTerminal(): boolean {
    return process.stderr.isTTY === true;
  }

  print(text: string): void {
    process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  /** One JSON value on one line. */
  printJson(value: unknown): void {
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }

  printBytes(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => process.stdout.write(bytes, (error) => (error ? reject(error) : resolve())));
  }

  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  /** Repeats what fails; for calls that a person waits for. */
  client(command: Command, retry: RetryOptions = {}): Switchyard {
    const { url, apiKey } = command.optsWithGlobals<GlobalOptions>();
    return new Switchyard({ url, apiKey, retry, tracing: inheritedTrace(process.env) });
  }

  /** Tries once: whoever typed the command wants to know at once that nobody listens. */
  hastyClient(command: Command): Switchyard {
    const { url, apiKey } = command.optsWithGlobals<GlobalOptions>();
    return new Switchyard({ url, apiKey, retry: false, tracing: inheritedTrace(process.env) });
  }

  /** For what speaks another protocol than the client does. */
  server(command: Command): { urls: string[]; headers: Record<string, string> } {
    const { urls, apiKey } = serverOf(command.optsWithGlobals<GlobalOptions>());
    return { urls, headers: apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` } };
  }

  wantsJson(command: Command): boolean {
    return command.optsWithGlobals<GlobalOptions>().json === true;
  }

  /** A file's bytes; `-` is standard input. Throws UsageError. */
  async read(path: string): Promise<Uint8Array> {
    if (path === "-") {
      const chunks: Buffer[] = [];
      for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks);
    }
    try {
      return await readFile(path);
    } catch (error) {
      throw new UsageError(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
