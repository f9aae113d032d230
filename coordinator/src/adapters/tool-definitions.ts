/** From what a server lists to definitions that can be used: bounded in number, size and depth; schemas compiled when they are first needed. */

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

const mostTools = 500;
const mostNameChars = 128;
const mostDefinitionChars = 65_536;
const mostListChars = 4 << 20;
/** Of definitions and of answers. */
export const mostDepth = 64;
const compileMs = 1_000;
const checkMs = 200;
const mostProblems = 10;

/** Definitions by the text that they were made of, so that a list that has not changed is the same objects, compiled once. */
export class ToolDefinitions {
  readonly #compile: SchemaCompiler;
  readonly #onLeftOut: (tool: string, why: string) => void;
  #known = new Map<string, { text: string; definition: ToolDefinition }>();
  #toldOf = new Set<string>();

  constructor(compile: SchemaCompiler, onLeftOut: (tool: string, why: string) => void) {
    this.#compile = compile;
    this.#onLeftOut = onLeftOut;
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
        this.#known.set(tool.name, known?.text === text ? known : { text, definition: makeDefinition(tool, this.#compile) });
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

function makeDefinition(tool: ListedTool, compile: SchemaCompiler): ToolDefinition {
  const { description, inputSchema, name, title } = tool;
  const outputSchema = isSchema(tool.outputSchema) ? tool.outputSchema : undefined;
  const checks = {
    input: checker(compile, inputSchema as Record<string, unknown>, "input"),
    output: outputSchema && checker(compile, outputSchema, "output"),
  };
  return {
    name,
    ...(title !== undefined && { title }),
    ...(description !== undefined && { description }),
    inputSchema: inputSchema as Record<string, unknown>,
    ...(outputSchema && { outputSchema }),
    ...(tool.annotations && { annotations: hintsIn(tool.annotations) }),
    checkArguments: (value) => checks.input(value),
    checkOutput: (value) => checks.output?.(value) ?? [],
  };
}

function hintsIn({ destructiveHint, idempotentHint, openWorldHint, readOnlyHint, title }: ToolAnnotations): ToolAnnotations {
  const all: ToolAnnotations = { title, readOnlyHint, destructiveHint, idempotentHint, openWorldHint };
  return Object.fromEntries(Object.entries(all).filter(([, hint]) => hint !== undefined));
}

function checker(compile: SchemaCompiler, schema: Record<string, unknown>, which: "input" | "output"): (value: unknown) => SchemaProblem[] {
  let compiled: ((value: unknown) => string | undefined) | undefined;
  return (value) => {
    try {
      compiled ??= withinMs(compileMs, () => compile(schema));
      const check = compiled;
      const text = withinMs(checkMs, () => check(value));
      return text === undefined ? [] : problemsIn(text);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const why = code === "ERR_SCRIPT_EXECUTION_TIMEOUT" ? "checking it takes too long" : message.slice(0, 200);
      throw new ToolFailure("invalid", `the tool's ${which} schema cannot be used: ${why}`);
    }
  };
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
