/** What a server of tools is told that asks for input while nobody is there to give it. Pure. */

import type { ToolServerSettings } from "../ports/tool-servers.ts";

/** As servers send it; its properties are primitive values, or lists of such. */
interface AskedForm {
  properties?: Readonly<Record<string, { default?: unknown; [keyword: string]: unknown }>>;
  required?: readonly string[] | undefined;
}

type Value = string | number | boolean | string[];

export type ElicitationAnswer = { action: "decline" } | { action: "accept"; content: Record<string, Value> };

/** `defaults`: what the form itself proposes, and no where it leaves a field open that it requires. Undefined: nothing that is a form. */
export function elicitationAnswer(
  policy: Exclude<ToolServerSettings["elicitation"], "off">,
  form: AskedForm | undefined,
): ElicitationAnswer {
  const { properties = {}, required = [] } = form ?? {};
  const proposed = Object.entries(properties).filter(([, field]) => field.default !== undefined);
  const isComplete = required.every((name) => proposed.some(([known]) => known === name));
  if (policy === "decline" || form === undefined || !isComplete) return { action: "decline" };
  return { action: "accept", content: Object.fromEntries(proposed.map(([name, field]) => [name, field.default as Value])) };
}
