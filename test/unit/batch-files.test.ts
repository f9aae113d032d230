import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { answerLine, readAnswers } from "../../client-sdk/src/cli/batch/answer-file.ts";
import { AnsweredLines } from "../../client-sdk/src/cli/batch/answered-lines.ts";
import { itemsOf, scanItems } from "../../client-sdk/src/cli/batch/item-file.ts";
import { ItemLines } from "../../client-sdk/src/cli/batch/item-line.ts";
import { lockOutput } from "../../client-sdk/src/cli/batch/output-lock.ts";
import { Pace } from "../../client-sdk/src/cli/batch/pace.ts";
import { ClientError } from "../../client-sdk/src/client-errors.ts";
import { modelView } from "../support/job-views.ts";

const folder = mkdtempSync(path.join(tmpdir(), "switchyard-files-"));
const file = path.join(folder, "file");

describe("files of a batch", () => {
  after(() => rmSync(folder, { recursive: true }));

  test("answered lines are told as ranges, from which the same set is made", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(199)), (indexes) => {
        const answered = new AnsweredLines(200);
        for (const index of indexes) answered.add(index);
        const ranges = answered.ranges();
        const again = new AnsweredLines(200, ranges);
        for (let index = 0; index < 200; index++) assert.equal(again.has(index), indexes.includes(index));
        for (const [at, [from, to]] of ranges.entries()) assert.ok(from < to && (at === 0 || ranges[at - 1]![1] < from));
      }),
    );
    assert.deepEqual(new AnsweredLines(10, [[0, 3], [5, 10]]).ranges(), [[0, 3], [5, 10]]); // biome-ignore format: short
  });

  test("a file's items are its lines that are not blank, under their numbers", async () => {
    const line = fc.stringMatching(/^[ \t\ra-zé]{0,5}$/);
    await fc.assert(
      fc.asyncProperty(fc.array(line), fc.boolean(), async (lines, ended) => {
        const text = lines.join("\n") + (ended && lines.length > 0 ? "\n" : "");
        writeFileSync(file, text);
        const expected = text.split("\n").flatMap((each, index) => (each.trim() === "" ? [] : [{ index, text: each.trim() }]));
        assert.deepEqual(await Array.fromAsync(itemsOf(file)), expected);
        const scanned = await scanItems(file);
        assert.deepEqual([scanned.items, scanned.sha256], [expected.length, createHash("sha256").update(text).digest("hex")]);
        assert.ok(expected.every(({ index }) => index < scanned.lines));
      }),
      { numRuns: 50 },
    );
  });

  test("answers are read back as they were written, and half a line at the end is not counted", async () => {
    const lines = [
      answerLine({ index: 7, jobId: "a-b", result: '{"outputs":[9007199254740993]}' }),
      answerLine({ index: 0, jobId: undefined, error: new ClientError("invalid_request", 'not "JSON"\n') }),
      answerLine({ index: 12, jobId: "c", error: new ClientError("run_failed", "é") }),
    ];
    assert.equal(lines[0], '{"index":7,"job":"a-b","result":{"outputs":[9007199254740993]}}\n');
    assert.deepEqual(JSON.parse(lines[1]!), { index: 0, error: { code: "invalid_request", detail: 'not "JSON"\n', retryable: false } });
    writeFileSync(file, `${lines.join("")}{"index":3,"job":"d","res`);
    const read: [number, boolean][] = [];
    const end = await readAnswers(file, 0, ({ index, failed }) => read.push([index, failed]));
    assert.deepEqual(read, [
      [7, false],
      [0, true],
      [12, true],
    ]);
    assert.equal(end, Buffer.byteLength(lines.join("")));
    const later: number[] = [];
    assert.equal(await readAnswers(file, Buffer.byteLength(lines[0]!), ({ index }) => later.push(index)), end);
    assert.deepEqual(later, [0, 12]);
    writeFileSync(file, '{"index":1}\n');
    await assert.rejects(
      readAnswers(file, 0, () => {}),
      /no answer of this command/,
    );
  });

  test("a line of the protocol goes out as it came, behind the terms; one by names gets types and shapes from the model", () => {
    const model = modelView();
    const lines = new ItemLines({ model, options: { version: 1, class: "batch", outputs: ["label"] } });
    const exact = '{"inputs":[{"name":"image","data":[9007199254740993]}],"class":"standard"}';
    assert.deepEqual(lines.line(4, exact), {
      index: 4,
      json: `{"model":"digits","version":1,"class":"batch","outputs":[{"name":"label"}],${exact.slice(1)}`,
    });
    const named = lines.line(5, JSON.stringify({ image: Array(64).fill(1) }));
    assert.ok("json" in named);
    const { inputs, ...rest } = JSON.parse(named.json);
    assert.deepEqual(rest, { model: "digits", version: 1, class: "batch", outputs: [{ name: "label" }] });
    assert.deepEqual([inputs[0].datatype, inputs[0].shape, inputs[0].data.length], ["FP32", [1, 64], 64]);
    for (const [text, pattern] of [
      ["{", /the line is not JSON/],
      ["[]", /the line is no object/],
      ["null", /the line is no object/],
      ['{"picture":[1]}', /has no input picture; it has image/],
      ['{"image":"a"}', /image/],
    ] as const) {
      const line = lines.line(0, text);
      assert.ok("error" in line && line.error.code === "invalid_request" && pattern.test(line.error.message), JSON.stringify(line));
    }
  });

  test("the pace is that of the last half minute", () => {
    const pace = new Pace();
    assert.deepEqual([pace.perSecond, pace.leftMs(10)], [0, undefined]);
    for (let second = 0; second <= 100; second++) pace.saw(second * 1_000, second < 50 ? second : 50 + (second - 50) * 10);
    assert.equal(Math.round(pace.perSecond), 10);
    assert.equal(Math.round(pace.leftMs(1_000)!), 45_000);
  });

  test("of two commands that find the lock of a dead one, one writes the output", async () => {
    const output = path.join(folder, "answers");
    const dead = spawnSync(process.execPath, ["-e", ""]).pid;
    for (let round = 0; round < 200; round++) {
      writeFileSync(`${output}.lock`, `${dead}\n`);
      const first = lockOutput(output);
      for (let turn = 0; turn < round % 8; turn++) await setImmediate();
      const found = await Promise.allSettled([first, lockOutput(output)]);
      const taken = found.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      assert.equal(taken.length, 1, `round ${round}: ${taken.length} have it`);
      const refused = found.find((one) => one.status === "rejected");
      assert.match(String(refused?.reason), new RegExp(`process ${process.pid} writes`));
      await taken[0]!();
    }
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes(".lock")),
      [],
    );
  });
});
