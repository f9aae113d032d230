/** Everything about Redis that coordinators and hosts must agree on. Needs Node (crypto); the SDK does not import it. */

export * from "./address.ts";
export * from "./cluster-wire.ts";
export * from "./keys.ts";
export * from "./queue-tag.ts";
export * from "./resp.ts";
export * from "./scripts.ts";
export * from "./slot.ts";
export * from "./wire.ts";
