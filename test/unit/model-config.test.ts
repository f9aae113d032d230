import assert from "node:assert/strict";
import { test } from "node:test";
import { checkModelConfig } from "@switchyard/protocol/schemas";

function problem(document: unknown): string {
  const checked = checkModelConfig(document);
  assert.ok("problem" in checked, "the configuration was accepted");
  return checked.problem;
}

test("an empty model.yaml is a valid configuration that sets nothing", () => {
  assert.deepEqual(checkModelConfig(null), { config: {} });
  assert.deepEqual(checkModelConfig({}), { config: {} });
});

test("a fault in model.yaml is told with the field's path, what was expected and what came", () => {
  const cases: [unknown, string][] = [
    [{ max_batch_items: "many" }, 'max_batch_items: expected a number, got "many"'],
    [{ max_batch_items: 0 }, "max_batch_items: expected a number above 0, got 0"],
    [{ max_batch_items: 1.5 }, "max_batch_items: expected a whole number, got 1.5"],
    [{ max_batch_items: 100_000 }, "max_batch_items: expected a number of at most 65536, got 100000"],
    [{ pin: "yes" }, 'pin: expected true or false, got "yes"'],
    [{ class: "urgent" }, 'class: expected one of interactive, standard, batch, got "urgent"'],
    [{ batch_axis: 1 }, "batch_axis: expected 0, got 1"],
    [{ cache: {} }, "cache.ttl_s: expected a number, got nothing"],
    [{ cache: { ttl_s: 31_536_001 } }, "cache.ttl_s: expected a number of at most 31536000, got 31536001"],
    [{ cache: { ttl_s: 60, bytes: 0 } }, "cache.bytes: expected a number above 0, got 0"],
    [{ image: { size: [8] } }, "image.size: expected at least 2 entries, got [8]"],
    [{ image: { size: [8, 8], std: [1, 0] } }, "image.std[1]: expected a number above 0, got 0"],
    [{ require: { labels: { zone: 3 } } }, "require.labels.zone: expected text, got 3"],
    [{ require: { providers: [""] } }, 'require.providers[0]: expected at least 1 characters, got ""'],
    [{ prefer: [{ label: "vision", weight: 1 }] }, 'prefer[0].label: expected a label as name=value, got "vision"'],
    [{ min_replicas: 3, max_replicas: 2 }, "min_replicas: expected at most max_replicas, which is 2, got 3"],
    [{ require: { frameworks: [] } }, "require.frameworks: expected at least 1 entries, got []"],
    [["max_batch_items"], 'the document: expected a mapping, got ["max_batch_items"]'],
  ];
  for (const [document, text] of cases) assert.equal(problem(document), text);
});

test("an unknown key in model.yaml is an error that lists the known ones of its place", () => {
  assert.match(problem({ max_batch: 8 }), /^max_batch: unknown key; expected one of max_batch_items, batch_axis, /);
  assert.equal(
    problem({ image: { size: [8, 8], color: true } }),
    "image.color: unknown key; expected one of size, layout, scale, mean, std, invert",
  );
  assert.equal(problem({ outputs: { y: { label: "f" } } }), "outputs.y.label: unknown key; expected labels");
  assert.equal(problem({ prefer: [{ label: "a=b", weight: 1, why: 2 }] }), "prefer[0].why: unknown key; expected one of label, weight");
});

test("every fault of a model.yaml is told at once", () => {
  assert.equal(problem({ pin: 1, max_delay_ms: -1 }).split("; ").length, 2);
});

test("what is wrong is quoted to an end, however large it is, or however often it stands within itself", () => {
  const circular: unknown[] = [];
  circular.push(circular, circular);
  const large = Array.from({ length: 1_000_000 }, () => "x");
  for (const value of [circular, large, { a: circular }, "y".repeat(1_000_000)]) {
    const text = problem({ class: value });
    assert.match(text, /^class: expected one of interactive, standard, batch, got .{77}\.\.\.$/);
  }
  assert.equal(problem({ class: { a: [1, "b", null, true] } }).split("got ")[1], '{"a":[1,"b",null,true]}');
  const many = problem(Object.fromEntries(Array.from({ length: 1_000 }, (_, at) => [`k${at}${"z".repeat(1_000)}`, 1])));
  assert.match(many, /; and 980 more$/);
  assert.ok(many.length < 20_000);
});
