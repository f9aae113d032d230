export * from "./bytes-elements.ts";
export * from "./errors.ts";
export * from "./job-states.ts";
export * from "./model.ts";
export * from "./tensor-frame.ts";
export * from "./tensors.ts";
