import assert from "node:assert/strict";
import { test } from "node:test";
import { SwitchyardError, type Tensor } from "@switchyard/protocol";
import { asNested, boundArguments } from "../../coordinator/src/application/bound-arguments.ts";
import { localCaller } from "../../coordinator/src/application/caller.ts";
import { bindArguments, mostBoundBytes, type Source, sizeOf } from "../../coordinator/src/application/tool-binding.ts";

const job = { id: "j1", outputs: { label: [3], "a/b": { "~": "tilde" }, text: ["'); DROP TABLE results; --"] } };
const documents = new Map<string, unknown>([["j1", job]]);

function bind(args: Record<string, unknown>, bindings: Record<string, string | Source>): Record<string, unknown> {
  const entries = Object.entries(bindings).map(([target, source]) => {
    return [target, typeof source === "string" ? { document: "j1", pointer: source } : source] as const;
  });
  return bindArguments(args, new Map(entries), documents);
}

test("values are put where pointers say, as the JSON values that they are", () => {
  const args = { table: "results", row: { kept: true } };
  const bound = bind(args, {
    "/job": "/id",
    "/row/label": "/outputs/label/0",
    "/row/more/text": "/outputs/text/0",
    "/tilde": "/outputs/a~1b/~0",
  });
  assert.deepEqual(bound, {
    table: "results",
    row: { kept: true, label: 3, more: { text: "'); DROP TABLE results; --" } },
    job: "j1",
    tilde: "tilde",
  });
  assert.deepEqual(args, { table: "results", row: { kept: true } }, "what was given is not changed");
});

test("the whole of a document, an object and an element of a list can be bound", () => {
  assert.deepEqual(bind({ list: [0, 0] }, { "/list/1": "/outputs/label/0", "/all": "", "/outputs": "/outputs" }), {
    list: [0, 3],
    all: job,
    outputs: job.outputs,
  });
});

test("what was bound is nobody else's", () => {
  const bound = bind({}, { "/outputs": "/outputs" });
  (bound.outputs as { label: number[] }).label[0] = 9;
  assert.equal(job.outputs.label[0], 3);
});

test("bindings that lead nowhere are named, all of them", () => {
  const wrong = {
    "": "/id",
    job: "/id",
    "/a": "id",
    "/b": "/absent",
    "/c": "/outputs/label/01",
    "/d": "/outputs/label/length",
    "/e": "/__proto__",
    "/list/5": "/id",
    "/text/x": "/id",
    "/__proto__/polluted": "/id",
    "/f": { document: "j2", pointer: "/id" },
    "/g": "/~2",
  };
  assert.throws(
    () => bind({ list: [0], text: "t" }, wrong),
    (error: unknown) => {
      assert.ok(error instanceof SwitchyardError);
      assert.equal(error.code, "invalid_request");
      const pointers = error.facts.fields?.map(({ pointer }) => pointer);
      assert.deepEqual(pointers, [
        "/bindings/",
        "/bindings/job",
        "/bindings/~1a/pointer",
        "/bindings/~1b/pointer",
        "/bindings/~1c/pointer",
        "/bindings/~1d/pointer",
        "/bindings/~1e/pointer",
        "/bindings/~1list~15",
        "/bindings/~1text~1x",
        "/bindings/~1__proto__~1polluted",
        "/bindings/~1f/pointer",
        "/bindings/~1g/pointer",
      ]);
      return true;
    },
  );
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test("outputs of a job are nested by their shape, and long whole numbers are text", () => {
  const tensor = (datatype: Tensor["datatype"], shape: number[], view: ArrayBufferView): unknown =>
    asNested({ name: "t", datatype, shape, bytes: new Uint8Array(view.buffer) });
  assert.deepEqual(tensor("FP32", [2, 1, 2], new Float32Array([1, 2.5, 3, 4])), [[[1, 2.5]], [[3, 4]]]);
  assert.equal(tensor("INT32", [], new Int32Array([7])), 7);
  assert.deepEqual(tensor("INT64", [2], new BigInt64Array([5n, 9_007_199_254_740_993n])), [5, "9007199254740993"]);
  assert.deepEqual(tensor("FP32", [0, 3], new Float32Array()), []);
});

test("what is bound is bounded as a whole, and counted before it is copied", (t) => {
  const document = { text: "x".repeat(1 << 20), list: Array.from({ length: 100_000 }, () => [1.5, "a", { b: null }]) };
  const large = new Map<string, unknown>([["j1", document]]);
  const bindings = (count: number, pointer: string) =>
    new Map(Array.from({ length: count }, (_, index) => [`/a${index}`, { document: "j1", pointer }] as const));
  assert.equal(Object.keys(bindArguments({}, bindings(3, "/text"), large)).length, 3);
  const copied = t.mock.method(globalThis, "structuredClone");
  for (const [count, pointer] of [
    [64, "/text"],
    [64, ""],
    [64, "/list"],
  ] as const) {
    assert.throws(
      () => bindArguments({}, bindings(count, pointer), large),
      (error: unknown) =>
        error instanceof SwitchyardError && error.code === "payload_too_large" && /\/bindings\/~1a\d+ goes/.test(error.message),
    );
    const sizeBytes = copied.mock.calls.reduce((sum, { arguments: [value] }) => sum + sizeOf(value), 0);
    assert.ok(sizeBytes > 0 && sizeBytes <= mostBoundBytes, `${sizeBytes} bytes were copied`);
    copied.mock.resetCalls();
  }
});

test("the size of a value is that of its JSON, about, and is not counted further than is asked", () => {
  for (const value of [{ a: [1, 2.5, "text", null, true], b: { c: {} } }, "x".repeat(1_000), 7, [[], [[]]]]) {
    const sizeBytes = JSON.stringify(value).length;
    assert.ok(sizeOf(value) >= sizeBytes && sizeOf(value) <= 2 * sizeBytes + 3, JSON.stringify([value, sizeOf(value)]).slice(0, 100));
  }
  const many = Array.from({ length: 1_000_000 }, () => 1);
  assert.ok(sizeOf(many, 100) < 200);
  assert.ok(sizeOf(many) <= mostBoundBytes);
});

test("the outputs of all jobs of a call together are bounded", async () => {
  const asked: number[] = [];
  const tensor: Tensor = { name: "out", datatype: "UINT8", shape: [1 << 20], bytes: new Uint8Array(1 << 20) };
  const jobs = {
    get: async (id: string) => ({ id, state: "succeeded", createdMs: 0 }),
    async outputs(_record: unknown, { maxBytes }: { maxBytes?: number } = {}) {
      asked.push(maxBytes!);
      return [tensor];
    },
  } as unknown as Parameters<typeof boundArguments>[0];
  const bindings = new Map(
    Array.from({ length: 6 }, (_, index) => [`/a${index}`, { document: `j${index}`, pointer: "/outputs/out/0" }] as const),
  );
  await assert.rejects(
    boundArguments(jobs, { arguments: {}, bindings }, localCaller),
    (error: unknown) => error instanceof SwitchyardError && error.code === "payload_too_large",
  );
  assert.deepEqual(asked, [1 << 20, 1 << 20, 1 << 20, 1 << 20, 0]);
});
