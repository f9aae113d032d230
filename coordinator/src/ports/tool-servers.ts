/**
 * Servers of the Model Context Protocol whose tools this cluster uses, as the configuration names them, and one connection to each. What
 * comes from such a server is a stranger's: names, descriptions, hints and answers are data, and every failure is a ToolFailure.
 */

import type { ProtocolEra } from "@switchyard/protocol";

export type ToolServerPlace =
  | {
      kind: "stdio";
      command: string;
      args: readonly string[];
      env: Readonly<Record<string, string>>;
      cwd?: string;
      /** As the configuration has it, before variables and folders: the same for all coordinators, wherever their files are. */
      written: { command: string; args: readonly string[]; cwd?: string };
    }
  /** `sse` is the transport of the protocol's first revision. `allowPrivate`: addresses and CIDR ranges that may be dialled although they are not public. */
  | { kind: "http" | "sse"; url: string; headers: Readonly<Record<string, string>>; allowPrivate: readonly string[] };

/**
 * How far a server is believed. `none`: no tool runs before somebody has consented. `hints`: tools that say they only read, and nothing
 * outside, run. `full`: all run. Whatever it says, a definition that has changed since it was pinned runs only after a new consent.
 */
export type ToolTrust = "none" | "hints" | "full";

/** One server of the configuration. */
export interface ToolServerSettings {
  name: string;
  place: ToolServerPlace;
  /** `auto`: asked at the start; the answer is remembered. */
  era: ProtocolEra | "auto";
  disabled: boolean;
  trust: ToolTrust;
  /** Tool names, or their beginnings with `*` after them. */
  allowTools: readonly string[];
  /** Wins over everything. */
  denyTools: readonly string[];
  /** Without any sign of life from a call; progress counts as one. */
  timeoutMs: number;
  /** Of a call, its waiting included. */
  maxTotalMs: number;
  /** Calls at a time, of this coordinator. */
  maxConcurrency: number;
  /** Largest message that the server may send. */
  maxMessageBytes: number;
  /** This coordinator is not ready before it has reached the server once. */
  required: boolean;
  /** Whether a server that was lost is started again. */
  restart: boolean;
  /** Which tools are offered on at this cluster's own MCP door; names as in `allowTools`. */
  expose: readonly string[];
  /** Told to servers that ask for roots; empty: the capability is not offered. */
  roots: readonly { uri: string; name?: string }[];
  /**
   * `decline`: requests for input are answered, with no. `defaults`: with what the form itself proposes, and with no where that is not enough.
   * `off`: the capability is not offered.
   */
  elicitation: "off" | "decline" | "defaults";
}

/** What a schema finds wrong. */
export interface SchemaProblem {
  /** JSON pointer into what was checked; "" for the whole. */
  pointer: string;
  /** Such as "must be string". */
  expected: string;
}

/** A tool as its server defines it. */
export interface ToolDefinition {
  name: string;
  title?: string;
  description?: string;
  inputSchema: Record<string, unknown>;
  outputSchema?: Record<string, unknown>;
  annotations?: ToolAnnotations;
  /**
   * Empty when the value fits. Bounded in time. Throws a ToolFailure `invalid` when the schema cannot be used.
   */
  checkArguments(value: unknown): SchemaProblem[];
  /** Of structured content; empty where the tool declares none. */
  checkOutput(value: unknown): SchemaProblem[];
}

export interface ToolAnnotations {
  title?: string | undefined;
  readOnlyHint?: boolean | undefined;
  destructiveHint?: boolean | undefined;
  idempotentHint?: boolean | undefined;
  openWorldHint?: boolean | undefined;
}

export interface ToolResult {
  content: { type: string; [member: string]: unknown }[];
  structuredContent?: unknown;
  isError: boolean;
}

/** What a server tells of a call that is under way, as it came: any number, any text. */
export interface ToolProgress {
  progress: number;
  total?: number | undefined;
  message?: string | undefined;
}

/**
 * - `unsent`: the server cannot be reached, or knows the session no more; nothing was called.
 * - `lost`: the connection ended before the answer; the tool may have run.
 * - `timed_out`: no answer, or no sign of life, in time; the tool may have run.
 * - `aborted`: the caller's signal.
 * - `refused`: the server answered with an error of the protocol; the tool may have run, unless `hasNotRun`.
 * - `invalid`: the server did what it must not: a message too large, an answer that is none, a request that is not offered.
 */
export type ToolFailureKind = "unsent" | "lost" | "timed_out" | "aborted" | "refused" | "invalid";

export class ToolFailure extends Error {
  override readonly name = "ToolFailure";
  readonly kind: ToolFailureKind;
  /** The failure itself says that nothing was called. */
  readonly hasNotRun: boolean;

  constructor(
    kind: ToolFailureKind,
    detail: string,
    { hasNotRun = kind === "unsent", ...options }: ErrorOptions & { hasNotRun?: boolean } = {},
  ) {
    super(detail, options);
    this.kind = kind;
    this.hasNotRun = hasNotRun;
  }
}

export interface CallHow {
  signal: AbortSignal;
  timeoutMs: number;
  maxTotalMs: number;
  progress?: ((told: ToolProgress) => void) | undefined;
}

export interface ToolConnection {
  readonly era: ProtocolEra;
  readonly protocolVersion: string | undefined;
  /** As the server calls itself. */
  readonly server: { name: string; version: string } | undefined;
  /** All pages, in the server's order; what cannot be used is left out and told to the log. Throws ToolFailure. */
  tools(signal: AbortSignal): Promise<ToolDefinition[]>;
  /** Exactly one request. `progress` is called as often as the server tells of it, and no more once the call has ended. Throws ToolFailure. */
  call(tool: ToolDefinition, args: Record<string, unknown>, how: CallHow): Promise<ToolResult>;
  /** Whether the server answers anything at all; false after a few seconds of silence. */
  answers(): Promise<boolean>;
  /** Ends the server, with every process that it has started; resolves when they are gone. Again and again the same. */
  close(): Promise<void>;
}

export interface ToolConnector {
  /**
   * Starts or dials the server and agrees on a revision. `changed` is called when it says that its tools have changed, `heard` when it answers
   * anything or tells of progress, `lost` once when the connection ends other than by `close`. Throws ToolFailure; then nothing of the server is left.
   */
  connect(
    settings: ToolServerSettings,
    how: { signal: AbortSignal; changed: () => void; heard: () => void; lost: (why: string) => void },
  ): Promise<ToolConnection>;
}
