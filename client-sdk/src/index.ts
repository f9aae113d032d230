/** The Switchyard SDK: `new Switchyard()` and what its methods take, answer and throw. */

export type {
  AliasTarget,
  AliasView,
  Datatype,
  Durability,
  JobClass,
  JobState,
  Parameters,
  Problem,
  RequestedOutput,
  Tensor,
  ToolAuditView,
  ToolCallView,
  ToolConsentView,
  ToolServerDetails,
  ToolServerView,
  ToolView,
  TypedArray,
} from "@switchyard/protocol";
export { floatFromHalf, halfFromFloat } from "@switchyard/protocol";
export type { BatchLine, BatchOutcome } from "./batch-run.ts";
export { type BatchAnswer, type BatchOptions, type ClientOptions, type JobFilter, JobList, Switchyard } from "./client.ts";
export { ClientError, ConnectionError, type ErrorDetails, TimeoutError } from "./client-errors.ts";
export type { Clock } from "./clock.ts";
export { type DeadLetterFilter, DeadLetterList, type Requeued } from "./dead-letters.ts";
export type { InferResult, InferTimings, OutputTensor } from "./infer-answer.ts";
export type { InferOptions, SubmitOptions } from "./infer-call.ts";
export type { Element, Inputs, InputTensor, InputValue, Nested } from "./inputs.ts";
export type { EventOptions, JobEvent } from "./job-events.ts";
export { type CallOptions, JobHandle, type WaitOptions } from "./job-handle.ts";
export type {
  ClientJobState,
  DeadLetterView,
  HostView,
  JobView,
  ModelStatistics,
  ModelView,
  Page,
  RequeuedView,
  TenantView,
} from "./job-records.ts";
export { ModelRepository, type UploadedModel, type UploadOptions } from "./model-repository.ts";
export type { RetryOptions } from "./retry-policy.ts";
export { type BoundArgument, type ToolCallOptions, ToolServerList } from "./tool-servers.ts";
export type { CallSpan, ClientTracing } from "./tracing.ts";
