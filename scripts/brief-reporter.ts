/** For logs: a dot a test, what was skipped and why, failures in full with what their files printed, the slowest files and tests, and node's closing figures. */

import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

interface Ended {
  name: string;
  nesting: number;
  file?: string;
  line?: number;
  skip?: boolean | string;
  details: { type?: string; duration_ms: number; error?: Error & { cause?: unknown; failureType?: string } };
}

const mostFiles = 12;
const mostTests = 20;

export default async function* brief(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const failed: Ended[] = [];
  const skipped: string[] = [];
  const figures: string[] = [];
  const printed = new Map<string, string>();
  const files: { file: string; seconds: number }[] = [];
  const tests: { test: string; seconds: number }[] = [];
  let dots = 0;
  for await (const { type, data } of events) {
    if (type === "test:pass" || type === "test:fail") {
      const test = data as Ended;
      if (test.skip !== undefined) skipped.push(`${test.name}${typeof test.skip === "string" ? ` (${test.skip})` : ""}`);
      // A suite that fails only because a test in it failed says nothing new.
      if (type === "test:fail" && test.details.error?.failureType !== "subtestsFailed") failed.push(test);
      const seconds = test.details.duration_ms / 1000;
      if (test.details.type !== "suite") tests.push({ test: `${test.file?.split("/test/").at(-1)}:${test.line}`, seconds });
      if (test.details.type !== "suite") yield `${type === "test:pass" ? "." : "X"}${++dots % 100 === 0 ? "\n" : ""}`;
    } else if (type === "test:stdout" || type === "test:stderr") {
      printed.set(data.file, (printed.get(data.file) ?? "") + data.message);
    } else if (type === "test:summary") {
      const { duration_ms, file } = data as { duration_ms: number; file?: string };
      if (file !== undefined) files.push({ file: file.split("/test/").at(-1)!, seconds: duration_ms / 1000 });
    } else if (
      type === "test:diagnostic" &&
      data.nesting === 0 &&
      /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /.test(data.message)
    ) {
      figures.push(data.message);
    }
  }
  yield "\n";
  for (const line of skipped) yield `skipped: ${line}\n`;
  for (const test of failed) {
    const { error } = test.details;
    yield `\n✖ ${test.name}\n  at ${test.file}:${test.line}\n${inspect(error?.cause ?? error, { colors: false })}\n`;
  }
  for (const file of new Set(failed.map((test) => test.file ?? ""))) {
    if (printed.has(file)) yield `\nprinted by ${file}:\n${printed.get(file)?.slice(-8_000)}\n`;
  }
  yield "\n";
  const slowest = <One extends { seconds: number }>(all: One[], most: number): One[] =>
    all.sort((a, b) => b.seconds - a.seconds).slice(0, most);
  if (files.length > mostFiles) {
    yield `slowest files: ${slowest(files, mostFiles)
      .map(({ file, seconds }) => `${file} ${seconds.toFixed(0)} s`)
      .join(", ")}\n`;
    yield `slowest tests: ${slowest(tests, mostTests)
      .map(({ test, seconds }) => `${test} ${seconds.toFixed(0)} s`)
      .join(", ")}\n`;
  }
  for (const figure of figures) yield `ℹ ${figure}\n`;
}
