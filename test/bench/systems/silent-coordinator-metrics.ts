/** Stands where a coordinator's metrics are, and does nothing. */

import type { PrometheusMetrics } from "../../../coordinator/src/adapters/prometheus-metrics.ts";

const nothing = (): void => {};

export function prometheusMetrics(): PrometheusMetrics {
  return {
    contentType: "text/plain",
    families: [],
    text: async () => "",
    modelKnown: nothing,
    modelGone: nothing,
    admitted: nothing,
    rejected: nothing,
    refusalTook: nothing,
    finished: nothing,
    cacheAsked: nothing,
    shadowed: nothing,
    cacheEvicted: nothing,
    ticketOffered: nothing,
    jobsReturned: nothing,
    hostLost: nothing,
    storeAnswering: nothing,
    storeRoundtrip: nothing,
    spans: nothing,
    httpAnswered: nothing,
    grpcAnswered: nothing,
    leading: nothing,
    queueFigures: nothing,
    queueGone: nothing,
    hostsSeen: nothing,
    tenantsWaiting: nothing,
    storeServers: nothing,
  };
}
