/** From what a server lists to definitions that can be used: bounded in number, size and depth; schemas compiled when they are first needed. */

import type { Clock } from "../clock.ts";
import { type SchemaProblem, type ToolAnnotations, type ToolDefinition, ToolFailure } from "../ports/tool-servers.ts";
import { withinMs } from "./time-bound.ts";

/** As a server lists it; nothing of it is trusted. */
export interface ListedTool {
  name: string;
  title?: string | undefined;
  description?: string | undefined;
  inputSchema: unknown;
  outputSchema?: unknown;
  annotations?: ToolAnnotations | undefined;
}

/** Compiles a JSON Schema; the check answers what is wrong as one text, in which the value is called `data`. Throws for a schema that cannot be used. */
export type SchemaCompiler = (schema: Record<string, unknown>) => (value: unknown) => string | undefined;

interface CheckHow {
  compile: SchemaCompiler;
  clock: Pick<Clock, "monotonicMs">;
}

const mostTools = 500;
const mostNameChars = 128;
const mostDefinitionChars = 65_536;
const mostListChars = 4 << 20;
/** Of definitions and of answers. */
export const mostDepth = 64;
/** Both hold up everybody. An honest schema takes a tenth of it, where the machine is not busy. */
const compileMs = 250;
const checkMs = 50;
/** A schema that took too long is not tried again for a while: longer each time, so that it costs the event loop a few per cent at first, and then nothing. */
const shortestRestMs = 5_000;
const longestRestMs = 3_600_000;
const mostProblems = 10;

/** Definitions by the text that they were made of, so that a list that has not changed is the same objects, compiled once. */
export class ToolDefinitions {
  readonly #how: CheckHow;
  readonly #onLeftOut: (tool: string, why: string) => void;
  #known = new Map<string, { text: string; definition: ToolDefinition }>();
  #toldOf = new Set<string>();

  constructor(how: CheckHow & { onLeftOut: (tool: string, why: string) => void }) {
    this.#how = how;
    this.#onLeftOut = how.onLeftOut;
  }

  of(listed: readonly ListedTool[]): ToolDefinition[] {
    const before = this.#known;
    this.#known = new Map();
    let listChars = 0;
    for (const tool of listed) {
      const name = String(tool.name).slice(0, mostNameChars);
      if (this.#known.size >= mostTools) {
        this.#leaveOut(name, `the server lists more than ${mostTools} tools`);
        break;
      }
      const text = textOf(tool);
      listChars += typeof text === "string" ? text.length : 0;
      if (listChars > mostListChars) {
        this.#leaveOut(name, `the server's list has more than ${mostListChars} characters`);
        break;
      }
      if (typeof text !== "string") this.#leaveOut(name, text.why);
      else if (this.#known.has(tool.name)) this.#leaveOut(name, "it is listed twice");
      else {
        const known = before.get(tool.name);
        this.#known.set(tool.name, known?.text === text ? known : { text, definition: makeDefinition(tool, this.#how) });
      }
    }
    return [...this.#known.values()].map(({ definition }) => definition);
  }

  /** Once a tool: lists come again and again. */
  #leaveOut(tool: string, why: string): void {
    const key = `${tool} ${why}`;
    if (this.#toldOf.has(key) || this.#toldOf.size > mostTools) return;
    this.#toldOf.add(key);
    this.#onLeftOut(tool, why);
  }
}

function textOf(tool: ListedTool): string | { why: string } {
  if (tool.name === "" || tool.name.length > mostNameChars) return { why: `its name has not 1 to ${mostNameChars} characters` };
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(tool.name) || !tool.name.isWellFormed())
    return { why: "its name has characters that nobody sees" };
  if (!isShallow(tool)) return { why: `its definition is deeper than ${mostDepth}` };
  const { annotations, description, inputSchema, name, outputSchema, title } = tool;
  const text = JSON.stringify({ name, title, description, inputSchema, outputSchema, annotations });
  if (text.length > mostDefinitionChars) return { why: `its definition has more than ${mostDefinitionChars} characters` };
  return isSchema(inputSchema) ? text : { why: "it has no input schema" };
}

/** Whether arrays and objects nest no deeper than is read safely; without recursion, because that is the danger. */
export function isShallow(value: unknown, most = mostDepth): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > most) return false;
    const next: unknown[] = [];
    for (const item of level) {
      if (typeof item !== "object" || item === null) continue;
      for (const member of Object.values(item)) if (typeof member === "object" && member !== null) next.push(member);
    }
    level = next;
  }
  return true;
}

const isSchema = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

function makeDefinition(tool: ListedTool, how: CheckHow): ToolDefinition {
  const { description, inputSchema, name, title } = tool;
  const outputSchema = isSchema(tool.outputSchema) ? tool.outputSchema : undefined;
  const checks = {
    input: new SchemaCheck(how, inputSchema as Record<string, unknown>, "input"),
    output: outputSchema && new SchemaCheck(how, outputSchema, "output"),
  };
  return {
    name,
    ...(title !== undefined && { title }),
    ...(description !== undefined && { description }),
    inputSchema: inputSchema as Record<string, unknown>,
    ...(outputSchema && { outputSchema }),
    ...(tool.annotations && { annotations: hintsIn(tool.annotations) }),
    checkArguments(value) {
      const problems = checks.input.problemsOf(value);
      if (problems.length === 0) checks.output?.prepare(); // or the tool would run for an answer that nobody can check
      return problems;
    },
    checkOutput: (value) => checks.output?.problemsOf(value) ?? [],
  };
}

function hintsIn({ destructiveHint, idempotentHint, openWorldHint, readOnlyHint, title }: ToolAnnotations): ToolAnnotations {
  const all: ToolAnnotations = { title, readOnlyHint, destructiveHint, idempotentHint, openWorldHint };
  return Object.fromEntries(Object.entries(all).filter(([, hint]) => hint !== undefined));
}

/** What a stranger's schema says of values. One that cannot be used is not compiled again, and one that takes too long seldom. */
class SchemaCheck {
  readonly #how: CheckHow;
  readonly #schema: Record<string, unknown>;
  readonly #which: "input" | "output";
  #compiled: ((value: unknown) => string | undefined) | undefined;
  /** Why it cannot be used, and until when that is believed. */
  #broken: { why: string; untilMs: number } | undefined;
  #restMs = shortestRestMs;

  constructor(how: CheckHow, schema: Record<string, unknown>, which: "input" | "output") {
    this.#how = how;
    this.#schema = schema;
    this.#which = which;
  }

  problemsOf(value: unknown): SchemaProblem[] {
    const check = this.prepare();
    const text = this.#within(checkMs, () => check(value));
    this.#restMs = shortestRestMs;
    return text === undefined ? [] : problemsIn(text);
  }

  /** Throws a ToolFailure where the schema cannot be used. */
  prepare(): (value: unknown) => string | undefined {
    if (this.#broken && this.#how.clock.monotonicMs() < this.#broken.untilMs) throw this.#failure(this.#broken.why);
    this.#compiled ??= this.#within(compileMs, () => {
      const check = this.#how.compile(this.#schema);
      check({}); // what is generated is parsed when it is first called
      return check;
    });
    return this.#compiled;
  }

  #within<T>(ms: number, run: () => T): T {
    try {
      return withinMs(ms, run);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const isLate = code === "ERR_SCRIPT_EXECUTION_TIMEOUT";
      const why = isLate ? "checking it takes too long" : message.slice(0, 200);
      this.#broken = { why, untilMs: isLate ? this.#how.clock.monotonicMs() + this.#restMs : Number.POSITIVE_INFINITY };
      if (isLate) this.#restMs = Math.min(longestRestMs, 2 * this.#restMs);
      throw this.#failure(why);
    }
  }

  #failure(why: string): ToolFailure {
    return new ToolFailure("invalid", `the tool's ${this.#which} schema cannot be used: ${why}`);
  }
}

/** "data/job must be string, data must have required property 'output'" → one problem each. */
function problemsIn(text: string): SchemaProblem[] {
  return text
    .split(/, (?=data(?:\/| ))/)
    .slice(0, mostProblems)
    .map((part) => {
      const [, pointer = "", expected = part] = /^data(\S*) (.*)$/s.exec(part) ?? [];
      return { pointer, expected: expected.slice(0, 200) };
    });
}
