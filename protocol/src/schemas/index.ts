/** What people and clients write, and what /v1 shows, as schemas of zod: whoever only computes with it needs its types, which the package's main entry has. */

export * from "./cluster-view.ts";
export * from "./job-request.ts";
export * from "./job-view.ts";
export * from "./model-alias.ts";
export * from "./model-config.ts";
export * from "./remote-model.ts";
export * from "./requirement.ts";
export * from "./schema-faults.ts";
export * from "./tool-server-view.ts";
