import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { GraphBuilder } from "@switchyard/protocol/onnx";
import { queueTag } from "@switchyard/protocol/redis";
import { FilesystemModels } from "../../coordinator/src/adapters/filesystem-models.ts";
import { systemClock } from "../../coordinator/src/clock.ts";

const folders: string[] = [];
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "models-"));
  folders.push(folder);
  return folder;
}

/** Writes files below a new root. They look old unless `young`, as files that nobody is writing any more. */
function repository(files: Record<string, string | Uint8Array>): {
  root: string;
  write: (path: string, content: string | Uint8Array, young?: boolean) => void;
} {
  const root = newFolder();
  const write = (path: string, content: string | Uint8Array, young = false): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
    const past = new Date(Date.now() - 60_000);
    if (!young) utimesSync(join(root, path), past, past);
  };
  for (const [path, content] of Object.entries(files)) write(path, content);
  return { root, write };
}

function adder(addend: number, build?: (graph: GraphBuilder) => void): Uint8Array {
  const graph = new GraphBuilder({ name: "adder" });
  graph.input("x", "FP32", ["batch", 2]);
  graph.output("y", "FP32", ["batch", 2]);
  graph.node("Add", ["x", graph.weight("addend", [2], new Float32Array(2).fill(addend))], {}, "y");
  build?.(graph);
  return graph.toBytes();
}

const sha256 = (...parts: (string | Uint8Array)[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};

test("the example model is listed with its signature, configuration and labels", async () => {
  const root = fileURLToPath(new URL("../../models", import.meta.url));
  const { versions, problems } = await new FilesystemModels({ root }).scan();
  const bytes = readFileSync(join(root, "digits/1/model.onnx"));
  const digits = versions.find((version) => version.model === "digits");
  assert.deepEqual(problems, []);
  assert.deepEqual(digits, {
    model: "digits",
    version: 1,
    digest: sha256(bytes),
    tag: queueTag("digits", sha256(bytes)),
    sizeBytes: bytes.length,
    path: "digits/1/model.onnx",
    signature: {
      inputs: [{ name: "image", datatype: "FP32", shape: [-1, 64], axes: ["batch", null] }],
      outputs: [
        { name: "probabilities", datatype: "FP32", shape: [-1, 10], axes: ["batch", null] },
        { name: "label", datatype: "INT64", shape: [-1], axes: ["batch"] },
      ],
    },
    config: {
      max_batch_items: 64,
      outputs: { probabilities: { labels: "labels.txt" } },
      image: { size: [8, 8], layout: "FLAT", scale: 16 / 255, invert: "bright-border" },
    },
    labels: { probabilities: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] },
  });
});

test("a faulty model.yaml fails every version of its model, names file, field and expectation, and disturbs no other", async () => {
  const { root } = repository({
    "bad/1/model.onnx": adder(1),
    "bad/2/model.onnx": adder(2),
    "bad/model.yaml": "max_batch_items: many\nimage: { size: [8], colour: red }\nclass: urgent\nmax_bach_items: 3\n",
    "broken/1/model.onnx": adder(1),
    "broken/model.yaml": "image: [1, 2\nclass: batch\n",
    "misnamed/1/model.onnx": adder(1),
    "misnamed/model.yaml": "outputs: { z: {} }\n",
    "circular/1/model.onnx": adder(1),
    "circular/model.yaml": "class: &a [*a]\n",
    "elsewhere/1/remote.yaml": "framework: &a [*a]\n",
    "good/1/model.onnx": adder(1),
    "good/model.yaml": "# nothing set\n",
  });
  const { versions, problems } = await new FilesystemModels({ root }).scan();
  assert.deepEqual(problems, []);
  const failures = Object.fromEntries(versions.map((version) => [`${version.model}/${version.version}`, version.failure]));
  const bad = failures["bad/1"]!;
  assert.match(
    bad,
    /^model\.yaml: max_batch_items: expected a number, got "many"; class: expected one of interactive, standard, batch, got "urgent"; /,
  );
  assert.match(bad, /image\.size: expected at least 2 entries, got \[8\]/);
  assert.match(bad, /image\.colour: unknown key; expected one of size, layout, scale, mean, std, invert/);
  assert.match(bad, /max_bach_items: unknown key; expected one of max_batch_items, /);
  assert.equal(failures["bad/2"], bad);
  assert.match(failures["broken/1"]!, /^model\.yaml: not valid YAML: .* at line [12], column \d+$/);
  assert.equal(failures["misnamed/1"], "model.yaml: outputs.z: expected an output of the model (y)");
  const circular = "expected at most 64 levels, and no alias inside of what it stands for";
  assert.equal(failures["circular/1"], `model.yaml: ${circular}`);
  assert.equal(failures["elsewhere/1"], `1/remote.yaml: ${circular}`);
  assert.ok("good/1" in failures);
  assert.equal(failures["good/1"], undefined);
});

test("label files are read from the model's folder only", async () => {
  const yaml = (file: string): string => `outputs: { y: { labels: ${JSON.stringify(file)} } }\n`;
  const { root, write } = repository({ "secret.txt": "secret\n" });
  for (const [model, file] of Object.entries({
    good: "l/names.txt",
    up: "../secret.txt",
    absolute: "/etc/hostname",
    none: "names.txt",
    link: "link.txt",
  })) {
    write(`${model}/1/model.onnx`, adder(1));
    write(`${model}/model.yaml`, yaml(file));
  }
  write("good/l/names.txt", "left\r\nright\r\n");
  symlinkSync("../secret.txt", join(root, "link/link.txt"));
  const { versions } = await new FilesystemModels({ root }).scan();
  const byModel = Object.fromEntries(versions.map((version) => [version.model, version]));
  assert.deepEqual(byModel.good!.labels, { y: ["left", "right"] });
  assert.equal(byModel.good!.failure, undefined);
  for (const model of ["up", "absolute", "link"]) {
    assert.match(byModel[model]!.failure!, /^model\.yaml: outputs\.y\.labels: ".*" lies outside the model's folder$/);
    assert.equal(byModel[model]!.labels, undefined);
  }
  assert.match(byModel.none!.failure!, /expected a text file in the model's folder with one label per line, but there is no "names.txt"/);
});

test("a broken graph and a type that cannot be carried are listed as failed with their reason", async () => {
  const { root } = repository({
    "cut/1/model.onnx": adder(1).subarray(0, 100),
    "text/1/model.onnx": "not a graph",
    "bf16/7/model.onnx": adder(1, (graph) => graph.input("half", 16, [1])),
  });
  const { versions } = await new FilesystemModels({ root }).scan();
  assert.deepEqual(
    versions.map((version) => [version.model, version.failure?.replace(/:[^:]*$/, "")]),
    [
      ["bf16", "7/model.onnx"],
      ["cut", "1/model.onnx: not a whole ONNX model (100 bytes)"],
      ["text", "1/model.onnx: not a whole ONNX model (11 bytes)"],
    ],
  );
  assert.match(versions[0]!.failure!, /input "half" has type bfloat16/);
});

test("bad names, empty folders and links that lead out are problems, not versions", async () => {
  const { root, write } = repository({
    "README.md": "models",
    ".hidden/1/model.onnx": adder(1),
    "-dash/1/model.onnx": adder(1),
    "m/v1/model.onnx": adder(1),
    "m/0/model.onnx": adder(1),
    "m/01/model.onnx": adder(1),
    "m/3/model.onnx": adder(3),
    "m/10/model.onnx": adder(10),
    "empty/model.yaml": "",
    "hollow/1/other.txt": "",
  });
  const outside = repository({ "1/model.onnx": adder(1) });
  symlinkSync(outside.root, join(root, "linked"));
  mkdirSync(join(root, "inner"));
  symlinkSync(join(outside.root, "1"), join(root, "inner/1"));
  write("file/2/keep.txt", "");
  symlinkSync(join(outside.root, "1/model.onnx"), join(root, "file/2/model.onnx"));
  symlinkSync("m", join(root, "alias"));
  const { versions, problems } = await new FilesystemModels({ root }).scan();
  const badVersion = (name: string): string => `bad version folder: expected a positive whole number, such as 1, got "${name}"`;
  assert.deepEqual(
    versions.map((version) => version.path),
    ["alias/3/model.onnx", "alias/10/model.onnx", "m/3/model.onnx", "m/10/model.onnx"],
  );
  assert.deepEqual(
    problems.filter(({ path }) => !path.startsWith("alias/")).map(({ path, problem }) => [path, problem]),
    [
      ["-dash", 'bad model name: expected a letter or digit, then at most 127 letters, digits, ".", "_" or "-", got "-dash"'],
      ["empty", "has no version folder, such as 1"],
      ["file/2/model.onnx", "is a link that leads out of the repository"],
      ["hollow/1/model.onnx", "there is no such file, and no remote.yaml either"],
      ["inner/1/model.onnx", "is a link that leads out of the repository"],
      ["linked", "is a link that leads out of the repository"],
      ["m/0", badVersion("0")],
      ["m/01", badVersion("01")],
      ["m/v1", badVersion("v1")],
    ],
  );
});

test("the digest covers external weights in name order, and a missing or escaping one fails the version", async () => {
  const external = (...locations: string[]): Uint8Array =>
    adder(1, (graph) => {
      for (const location of locations) graph.externalWeight(location, { location, datatype: "FP32", dims: [1] });
    });
  const { root } = repository({
    "whole/1/model.onnx": external("z.bin", "a.bin"),
    "whole/1/a.bin": "aaaa",
    "whole/1/z.bin": "zzzz",
    "lacking/1/model.onnx": external("a.bin"),
    "escaping/1/model.onnx": external("../../whole/1/a.bin"),
  });
  const { versions } = await new FilesystemModels({ root }).scan();
  const [escaping, lacking, whole] = versions;
  assert.equal(whole!.digest, sha256(external("z.bin", "a.bin"), "aaaa", "zzzz"));
  assert.equal(whole!.sizeBytes, external("z.bin", "a.bin").length + 8);
  assert.equal(whole!.failure, undefined);
  assert.match(lacking!.failure!, /external weights "a.bin" are missing/);
  assert.match(escaping!.failure!, /lie outside the version's folder/);
});

test("a scan that finds nothing changed answers what the last one did, and one that finds only that a model is gone does not", async () => {
  const { root } = repository({ "a/1/model.onnx": adder(1), "b/1/model.onnx": adder(1) });
  const later = { ...systemClock, nowMs: () => systemClock.nowMs() + 10_000 }; // what is just written is not trusted yet
  const models = new FilesystemModels({ root, clock: later });
  const first = await models.scan();
  assert.equal(await models.scan(), first);
  rmSync(join(root, "b"), { recursive: true });
  const without = await models.scan();
  assert.deepEqual(
    without.versions.map(({ model }) => model),
    ["a"],
  );
  assert.equal(await models.scan(), without);
  mkdirSync(join(root, "bad name!"));
  assert.equal((await models.scan()).problems.length, 1);
  rmSync(join(root, "bad name!"), { recursive: true });
  assert.deepEqual((await models.scan()).problems, [], "nor one that finds that a folder is gone of which nothing came");
});

test("a scan sees new, changed and deleted files, and leaves what did not change as it was", async () => {
  const { root, write } = repository({ "a/1/model.onnx": adder(1), "b/1/model.onnx": adder(1), "b/model.yaml": "max_batch_items: 2" });
  const models = new FilesystemModels({ root });
  const first = await models.scan();
  const second = await models.scan();
  assert.equal(second.versions[0], first.versions[0]);
  assert.equal(second.versions[1], first.versions[1]);
  write("a/2/model.onnx", adder(2));
  write(
    "b/1/model.onnx",
    adder(22, (graph) => graph.output("extra", "FP32", [1])),
  );
  write("b/model.yaml", "max_batch_items: 16");
  const third = await models.scan();
  assert.equal(third.versions[0], first.versions[0]);
  assert.deepEqual(
    third.versions.map((version) => [version.model, version.version, version.config.max_batch_items]),
    [
      ["a", 1, undefined],
      ["a", 2, undefined],
      ["b", 1, 16],
    ],
  );
  assert.notEqual(third.versions[2]!.digest, first.versions[1]!.digest);
  rmSync(join(root, "a"), { recursive: true });
  rmSync(join(root, "b/model.yaml"));
  const fourth = await models.scan();
  assert.deepEqual(
    fourth.versions.map((version) => [version.path, version.config]),
    [["b/1/model.onnx", {}]],
  );
});

test("a half-written file is read again later instead of being reported", async () => {
  const whole = adder(5);
  const { root, write } = repository({ "old/1/model.onnx": adder(1), "old/model.yaml": "max_batch_items: 2" });
  const startMs = Date.now();
  // what is written now stays young, however long this machine takes over it
  const models = new FilesystemModels({ root, clock: { ...systemClock, nowMs: () => startMs } });
  const [before] = (await models.scan()).versions;
  write("old/1/model.onnx", whole.subarray(0, 60), true);
  write("old/model.yaml", "max_batch_items: [", true);
  write("new/1/model.onnx", whole.subarray(0, 60), true);
  const during = await models.scan();
  assert.deepEqual(during.versions, [before]);
  assert.deepEqual(
    during.problems.map(({ path, problem }) => [path, problem]),
    ["new", "old"].map((model) => [`${model}/1/model.onnx`, "is still being written; it is read again at the next scan"]),
  );
  write("old/1/model.onnx", whole, true);
  write("old/model.yaml", "max_batch_items: 4", true);
  write("new/1/model.onnx", whole, true);
  const afterwards = await models.scan();
  assert.deepEqual(afterwards.problems, []);
  assert.deepEqual(
    afterwards.versions.map((version) => [version.model, version.digest, version.config.max_batch_items]),
    [
      ["new", sha256(whole), undefined],
      ["old", sha256(whole), 4],
    ],
  );
});

test("a graph file over 2 GiB fails with advice and is not read", { timeout: 30_000 }, async () => {
  const { root } = repository({ "huge/1/model.onnx": "" });
  truncateSync(join(root, "huge/1/model.onnx"), 2 ** 31);
  utimesSync(join(root, "huge/1/model.onnx"), 1e9, 1e9);
  const { versions } = await new FilesystemModels({ root }).scan();
  assert.match(versions[0]!.failure!, /larger than 2 GiB .*keep its weights in external data/);
});

test("a missing repository is a problem, and an empty one is none", async () => {
  const root = newFolder();
  assert.deepEqual(await new FilesystemModels({ root }).scan(), { versions: [], problems: [] });
  const missing = await new FilesystemModels({ root: join(root, "nowhere") }).scan();
  assert.deepEqual(missing, { versions: [], problems: [{ path: ".", problem: "the repository's folder does not exist" }] });
});
