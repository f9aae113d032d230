/** The page that explains a job's life says what the table says. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { isTerminal, jobStates, mayBecome } from "@switchyard/protocol";

const page = readFileSync(new URL("../../docs/job-lifecycle.md", import.meta.url), "utf8");
const inTable = jobStates.flatMap((from) => mayBecome[from].map((to) => `${from} → ${to}`)).sort();

test("the diagram of a job's life shows every transition and no other", () => {
  const diagram = /```mermaid\nstateDiagram-v2\n([\s\S]*?)```/.exec(page)?.[1] ?? "";
  const arrows = [...diagram.matchAll(/^\s*(\S+) --> (\S+)\s*$/gm)].map(([, from, to]) => [from as string, to as string] as const);
  const between = arrows.filter(([from, to]) => from !== "[*]" && to !== "[*]").map(([from, to]) => `${from} → ${to}`);
  assert.deepEqual(between.sort(), inTable);
  assert.deepEqual(
    arrows.filter(([from]) => from === "[*]").map(([, to]) => to),
    ["queued"],
  );
  assert.deepEqual(
    arrows
      .filter(([, to]) => to === "[*]")
      .map(([from]) => from)
      .sort(),
    jobStates.filter(isTerminal).sort(),
  );
});

test("each transition is explained once", () => {
  const rows = [...page.matchAll(/^\| (\w+) \| (\w+) \| \S.*\|$/gm)].map(([, from, to]) => `${from} → ${to}`);
  assert.deepEqual(rows.filter((row) => row !== "from → to").sort(), inTable);
});
