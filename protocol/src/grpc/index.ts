export * from "./infer-answer.ts";
export * from "./infer-message.ts";
