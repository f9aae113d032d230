/**
 * The id of the trace that is being worked on in this very moment, 32 hex digits, for whoever refers to it: exemplars of metrics. Undefined
 * where there is none, it is not recorded, or tracing is off. Only good within the call that asks: never keep it over an await.
 */
export type CurrentTraceId = () => string | undefined;
