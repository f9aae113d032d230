/** What `up` keeps and shows of the files that its processes write their lines to. */

import assert from "node:assert/strict";
import { closeSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { LogTail } from "../../coordinator/src/embedded/log-tail.ts";

const mebibyte = 2 ** 20;

function rig(t: TestContext) {
  const folder = mkdtempSync(path.join(tmpdir(), "switchyard-logs-"));
  const said: string[] = [];
  const log = new LogTail({ folder, name: "worker-1", show: "all", say: (line) => said.push(line) });
  // as a process holds it for as long as it lives
  const descriptor = log.open();
  t.after(() => {
    closeSync(descriptor);
    rmSync(folder, { recursive: true });
  });
  let count = 0;
  /** Lines of eight kibibytes, numbered. */
  const write = (lines: number): void => {
    const text = Array.from({ length: lines }, () => `${++count} `.padEnd(8_191, "x"));
    writeSync(descriptor, `${text.join("\n")}\n`);
  };
  const numbersIn = (file: string): number[] =>
    readFileSync(file, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => Number(line.split(" ")[0]));
  const follow = (): void => {
    for (let looks = 0; looks < 100 && said.length < count; looks++) log.read();
    assert.equal(said.length, count);
  };
  return { folder, log, write, numbersIn, said, written: () => count, follow };
}

test("a log that grows beyond 16 MiB begins anew while its process goes on writing to it, and no line is lost or said twice", (t) => {
  const { folder, follow, log, numbersIn, said, write, written } = rig(t);
  for (let at = 0; at < 45; at++) {
    write(125);
    if (at % 3 === 2) log.read(); // it may not keep up: a look reads a mebibyte
    assert.ok(statSync(log.file).size < 20 * mebibyte);
  }
  follow();
  assert.deepEqual(
    said.map((line) => Number(/^worker-1: (\d+) /.exec(line)?.[1])),
    Array.from({ length: written() }, (_, at) => at + 1),
  );
  assert.deepEqual(readdirSync(folder).sort(), ["worker-1.log", "worker-1.log.1"]);
  const kept = [...numbersIn(`${log.file}.1`), ...numbersIn(log.file)];
  assert.ok(kept.length >= 16 * 128, `${kept.length} lines`);
  assert.deepEqual(
    kept,
    Array.from({ length: kept.length }, (_, at) => written() - kept.length + at + 1),
  );
  assert.equal(statSync(`${log.file}.1`).mode & 0o777, 0o600);
});

test("where no copy can be made the log goes on as it is, and another is tried when it has grown as much again", (t) => {
  const { follow, log, numbersIn, said, write, written } = rig(t);
  const copy = `${log.file}.1`;
  mkdirSync(copy); // in the place of which there can be no file
  write(2_125);
  follow();
  assert.ok(statSync(log.file).size > 16 * mebibyte);
  rmdirSync(copy);
  write(1_250);
  follow();
  assert.ok(statSync(log.file).size > 16 * mebibyte, "not at once");
  write(1_250);
  log.read();
  assert.deepEqual([statSync(log.file).size, said.length, numbersIn(copy).length], [0, written(), written()]);
  write(2_125);
  log.read();
  assert.equal(statSync(log.file).size, 0, "and then as ever");
});
