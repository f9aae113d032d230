/** Job and model views as a coordinator would show them. */

import type { JobState, JobView, ModelView } from "@switchyard/protocol";

export function jobView(state: JobState, more: Partial<JobView> = {}): JobView {
  const id = more.id ?? "abcdefghij-abcdefghijklmnopqrstuvwxyz";
  const self = `/v1/jobs/${id}`;
  return {
    id,
    state,
    model: "digits",
    version: 1,
    class: "standard",
    attempt: state === "queued" ? 0 : 1,
    created_at: "2026-01-01T00:00:00.000Z",
    deadline: "2026-01-01T00:01:00.000Z",
    links: { self, result: `${self}/result`, events: `${self}/events` },
    ...more,
  };
}

export function modelView(more: Partial<ModelView> = {}): ModelView {
  return {
    model: "digits",
    version: 1,
    digest: "0".repeat(64),
    size_bytes: 12_345,
    state: "ready",
    inputs: [{ name: "image", datatype: "FP32", shape: [-1, 64] }],
    outputs: [
      { name: "probabilities", datatype: "FP32", shape: [-1, 10] },
      { name: "label", datatype: "INT64", shape: [-1] },
    ],
    ...more,
  };
}
