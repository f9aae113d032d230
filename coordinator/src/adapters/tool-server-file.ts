/**
 * The file that names the MCP servers whose tools this cluster uses. A new content is taken over whole, or not at all: while it is broken or
 * missing, the servers that were read last stay, and that is said once.
 */

import { readFileSync } from "node:fs";
import path from "node:path";
import { parseJson } from "@switchyard/protocol";
import type { Log } from "../ports/log.ts";
import type { ToolServerSettings } from "../ports/tool-servers.ts";
import { type Fingerprint, fingerprintOf, sameFingerprint } from "./model-file.ts";
import { type CheckedToolServers, checkToolServers } from "./tool-server-settings.ts";

const largestBytes = 1 << 20;
/** Far more than it has: what looks through it calls itself for each level. */
const mostDepth = 64;

type Variables = Readonly<Record<string, string | undefined>>;

export function readToolServerFile(file: string, env: Variables): CheckedToolServers {
  const broken = (why: string): CheckedToolServers => ({ servers: [], mistakes: [`${file}: ${why}`], warnings: [] });
  let text: string;
  try {
    const size = fingerprintOf(file)?.size ?? 0;
    if (size > largestBytes) return broken(`expected at most ${largestBytes} bytes, got ${size}`);
    text = readFileSync(file, "utf8");
  } catch (error) {
    return broken(`expected a readable file, got ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
  }
  let document: unknown;
  try {
    document = parseJson(Buffer.from(text), mostDepth).value;
  } catch (error) {
    return broken(`expected JSON: ${placeIn(text, (error as Error).message)}`);
  }
  const checked = checkToolServers(document, { env, folder: path.dirname(path.resolve(file)) });
  const inFile = (line: string): string => `${file}: ${line}`;
  return { ...checked, mistakes: checked.mistakes.map(inFile), warnings: checked.warnings.map(inFile) };
}

/** A parser's message, without the secrets around the place, and with its line. */
function placeIn(text: string, message: string): string {
  const at = /position (\d+)/.exec(message)?.[1];
  if (at === undefined && /nesting depth/.test(message)) return `it has more than ${mostDepth} levels`;
  if (at === undefined) return /end of JSON/i.test(message) ? "it ends too early" : "it is none";
  return `line ${text.slice(0, Number(at)).split("\n").length} is wrong`;
}

/** For the check of the configuration, before anything starts. */
export function toolServerMistakes(file: string, env: Variables): readonly string[] {
  return readToolServerFile(file, env).mistakes;
}

export class ToolServerFile {
  readonly #path: string;
  readonly #env: Variables;
  readonly #log: Log;
  readonly #onChange: (servers: readonly ToolServerSettings[]) => void;
  /** What the servers, or the last complaint, came from. */
  #known: Fingerprint | undefined;
  /** What the last look saw: a file that is being written is left to settle. */
  #seen: Fingerprint | undefined;

  /** `onChange` hears of every content that can be used, the first one in `open`. */
  constructor(file: { path: string; env: Variables; log: Log; onChange: (servers: readonly ToolServerSettings[]) => void }) {
    this.#path = file.path;
    this.#env = file.env;
    this.#log = file.log;
    this.#onChange = file.onChange;
  }

  /** Throws with every mistake when the file cannot be used. */
  open(): void {
    this.#known = fingerprintOf(this.#path);
    this.#seen = this.#known;
    const { mistakes, servers, warnings } = readToolServerFile(this.#path, this.#env);
    if (mistakes.length > 0) throw new Error(`the MCP servers cannot be used:\n${mistakes.map((line) => `  ${line}`).join("\n")}`);
    for (const message of warnings) this.#log.warn("mcp_servers_odd", { message });
    this.#onChange(servers);
  }

  /** One look at the file; a change is taken over by the second look that sees it. */
  async look(): Promise<void> {
    const now = fingerprintOf(this.#path);
    const isSettled = sameFingerprint(now, this.#seen);
    this.#seen = now;
    if (!isSettled || sameFingerprint(now, this.#known)) return;
    this.#known = now;
    const { mistakes, servers, warnings } = readToolServerFile(this.#path, this.#env);
    if (mistakes.length > 0) {
      this.#log.error("mcp_servers_kept", { message: `the servers that were read before stay: ${mistakes.join("; ")}` });
      return;
    }
    for (const message of warnings) this.#log.warn("mcp_servers_odd", { message });
    this.#log.info("mcp_servers_read", { servers: servers.length });
    this.#onChange(servers);
  }
}
