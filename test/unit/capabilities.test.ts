/** What hosts lack of what is required, whom models prefer, and how hosts describe themselves. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  beyond,
  type Capabilities,
  canonicalRequirement,
  contradictedLabel,
  memoryBytesOf,
  missingOf,
  missingOfAll,
  preferenceOf,
  providersFor,
  requirementsOf,
} from "@switchyard/protocol";
import { choosyQueueTag, profileOf, queueTag } from "@switchyard/protocol/redis";
import { choosyCandidate } from "../../coordinator/src/adapters/choosy-queues.ts";
import { deviceOf, modelMemoryMb, unreadyReason } from "../../worker/src/capabilities/device.ts";
import { readGpus } from "../../worker/src/capabilities/nvidia-smi.ts";

const cpuHost: Capabilities = { providers: ["cpu"], gpus: [], frameworks: ["onnx"], labels: { site: "north" } };
const gpuHost: Capabilities = {
  providers: ["cuda", "cpu"],
  gpus: [{ name: "NVIDIA H100", memoryMb: 81_559 }],
  frameworks: ["onnx", "pytorch"],
  labels: { site: "south", "optimised-for": "vision" },
};

test("a host is told all that it lacks, in words", () => {
  const requirement = {
    providers: ["tensorrt", "cuda"],
    gpu_memory_mb: 16_000,
    frameworks: ["pytorch"],
    labels: { site: "south", rack: "3" },
  };
  assert.deepEqual(missingOf(cpuHost, requirement), [
    "provider tensorrt or cuda",
    "a GPU with 16000 MB of memory",
    "framework pytorch",
    "label site=south",
    "label rack=3",
  ]);
  assert.deepEqual(missingOf(gpuHost, requirement), ["label rack=3"]);
  assert.deepEqual(missingOf(gpuHost, { gpu_memory_mb: 100_000 }), ["a GPU with 100000 MB of memory"]);
  assert.deepEqual(missingOf(cpuHost, {}), []);
});

test("requirements of model and job hold together: two values of one label fit no host", () => {
  const both = [{ labels: { site: "north" } }, { labels: { site: "south" } }];
  assert.deepEqual(missingOfAll(cpuHost, both), ["label site=south"]);
  assert.deepEqual(missingOfAll(gpuHost, both), ["label site=north"]);
});

test("a remote model requires its framework beside what model.yaml says", () => {
  const version = { config: { require: { labels: { site: "south" } } }, remote: { framework: "pytorch", model: "m" } };
  assert.deepEqual(missingOfAll(cpuHost, requirementsOf(version)), ["framework pytorch", "label site=south"]);
  assert.deepEqual(missingOfAll(gpuHost, requirementsOf(version)), []);
});

test("preference is the sum of the weights of the labels that a host carries", () => {
  const prefer = [
    { label: "optimised-for=vision", weight: 10 },
    { label: "site=south", weight: 0.5 },
    { label: "site=north", weight: -1 },
  ];
  assert.deepEqual([preferenceOf(gpuHost, prefer), preferenceOf(cpuHost, prefer), preferenceOf(cpuHost)], [10.5, -1, 0]);
});

test("a session is made with exactly the first required provider that the host has, and with the host's own choice where none is required", () => {
  const host = { providers: ["cuda", "cpu"], own: ["cpu"] };
  assert.deepEqual(providersFor([{ providers: ["tensorrt", "cuda"] }], host), ["cuda"]);
  assert.deepEqual(providersFor([{ labels: { a: "b" } }], host), ["cpu"]);
});

test("requirements that mean the same share a queue, others have their own, and none leads to the model's queue", () => {
  const tag = (requirement: object): string => choosyQueueTag("m", "d", canonicalRequirement(requirement));
  assert.equal(
    tag({ labels: { a: "1", b: "2" }, frameworks: ["x", "y"] }),
    tag({ frameworks: ["y", "x", "x"], labels: { b: "2", a: "1" } }),
  );
  assert.notEqual(tag({ labels: { a: "1" } }), tag({ labels: { a: "2" } }));
  assert.notEqual(tag({ labels: { a: "1" } }), queueTag("m", "d"));
  assert.equal(canonicalRequirement({ labels: {} }), "");
});

test("hosts with the same to offer share a profile, whatever order they say it in", () => {
  const same = { ...gpuHost, providers: ["cpu", "cuda"], labels: { "optimised-for": "vision", site: "south" } };
  assert.equal(profileOf(same), profileOf(gpuHost));
  for (const change of [{ labels: {} }, { gpus: [] }, { frameworks: ["onnx"] }, { providers: ["cpu"] }]) {
    assert.notEqual(profileOf({ ...gpuHost, ...change }), profileOf(gpuHost), JSON.stringify(change));
  }
});

test("the class of a device names provider, device and threads", () => {
  const { gpus } = gpuHost;
  assert.equal(deviceOf({ provider: "cpu", gpus, threads: 2, bridges: [] }), "cpu/2");
  assert.equal(deviceOf({ provider: "cuda", gpus, threads: 8, bridges: [] }), "cuda/NVIDIA H100/8");
  assert.equal(deviceOf({ provider: "cpu", gpus: [], threads: 2, bridges: ["pytorch"] }), "cpu/2 via pytorch");
});

test("a host is not ready while what belongs on a GPU would run on its CPU", () => {
  const needsCuda = { model: "big", version: 2, config: { require: { providers: ["cuda"] } } };
  const withGpu = { ...cpuHost, gpus: gpuHost.gpus };
  assert.match(unreadyReason({ ...withGpu, configured: ["cuda", "cpu"] }, []) ?? "", /provider cuda is configured and cannot be used/);
  assert.match(unreadyReason({ ...withGpu, configured: ["cpu"] }, [needsCuda]) ?? "", /big version 2 needs provider cuda/);
  assert.equal(
    unreadyReason({ ...cpuHost, configured: ["cpu"] }, [needsCuda]),
    undefined,
    "a machine without a GPU has nothing to answer for",
  );
  assert.equal(unreadyReason({ ...gpuHost, configured: ["cuda"] }, [needsCuda]), undefined);
});

test("what nvidia-smi prints is believed whole or not at all", () => {
  assert.deepEqual(readGpus("NVIDIA H100 80GB HBM3, 81559\nNVIDIA A10, 23028\n").gpus, [
    { name: "NVIDIA H100 80GB HBM3", memoryMb: 81_559 },
    { name: "NVIDIA A10", memoryMb: 23_028 },
  ]);
  assert.deepEqual(readGpus(""), { gpus: [] });
  for (const garbage of ["NVIDIA A10, many", "No devices were found", "A10, 1\n\x1b[31m, 3", "{}"]) {
    const found = readGpus(garbage);
    assert.deepEqual(found.gpus, [], garbage);
    assert.match(found.problem ?? "", /expected a name and a number of MiB/, garbage);
  }
});

test("what every host has, or the model requires already, is no requirement of the job's own", () => {
  const model = { providers: ["cuda"], gpu_memory_mb: 8_000, labels: { site: "north" } };
  assert.deepEqual(beyond({ frameworks: ["onnx"] }, []), {});
  assert.deepEqual(
    beyond({ providers: ["cuda", "cpu"], gpu_memory_mb: 8_000, frameworks: ["onnx"], labels: { site: "north" } }, [model]),
    {},
  );
  const more = { providers: ["cpu"], gpu_memory_mb: 8_001, frameworks: ["pytorch"], labels: { floor: "3" } };
  assert.deepEqual(beyond(more, [model]), more);
});

test("a label that the model requires with another value is contradicted", () => {
  const north = [{ labels: { site: "north" } }];
  assert.deepEqual(contradictedLabel({ labels: { site: "south" } }, north), { name: "site", expected: "north", got: "south" });
  assert.equal(contradictedLabel({ labels: { site: "north", floor: "3" } }, north), undefined);
});

test("a job whose requirement contradicts its model's is refused by the label's name", () => {
  const version = { model: "m", version: 1, digest: "d", tag: "t", config: { require: { labels: { "a/site": "north" } } } } as never;
  assert.throws(() => choosyCandidate(version, { labels: { "a/site": "south" } }), {
    code: "invalid_request",
    facts: { fields: [{ pointer: "/require/labels/a~1site", expected: "north", got: "south" }] },
  });
  assert.equal(choosyCandidate(version, { labels: { "a/site": "north" }, frameworks: ["onnx"] }), version);
});

test("models may fill the GPU where they are run on it, and half of the machine's memory elsewhere", () => {
  const { gpus } = gpuHost;
  assert.equal(modelMemoryMb({ providers: ["cuda", "cpu"], gpus, memoryMb: 128_000 }), 81_559);
  assert.equal(modelMemoryMb({ providers: ["cpu", "cuda"], gpus, memoryMb: 128_000 }), 64_000);
  assert.equal(modelMemoryMb({ providers: ["cuda"], gpus: [], memoryMb: 128_000 }), 64_000);
});

test("the memory of a machine counts as far as a container may use it", () => {
  const machineBytes = 64_000;
  assert.equal(memoryBytesOf({ limitBytes: 0, machineBytes }), 64_000, "no limit is known");
  assert.equal(memoryBytesOf({ limitBytes: 2_000, machineBytes }), 2_000);
  assert.equal(memoryBytesOf({ limitBytes: 2 ** 63, machineBytes }), 64_000, "what a system says where there is none");
});
