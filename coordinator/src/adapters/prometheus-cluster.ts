/** Gauges of the cluster: kept by every coordinator as far as it is told, exported by the one that leads. */

import type { ClusterMetrics, QueueGauges } from "../ports/metrics.ts";
import type { StoreServerFigures } from "../ports/store-figures.ts";
import type { MetricsRegistry } from "./prometheus-registry.ts";
import type { TenantLabels } from "./tenant-labels.ts";

export interface PrometheusCluster extends ClusterMetrics {
  /** A model was published: its queues are shown, if only as empty. */
  modelKnown(model: string): void;
  modelGone(model: string): void;
}

export function prometheusCluster(registry: MetricsRegistry, tenants: TenantLabels): PrometheusCluster {
  const leader = registry.gauge(
    "switchyard_leader",
    "1 on the coordinator that leads: it plans placement and exports what is true of the cluster",
  );
  const queueJobs = registry.gauge("switchyard_queue_jobs", "Jobs in the queue by state; the leader's", ["model", "state"]);
  const oldest = registry.gauge("switchyard_queue_oldest_seconds", "Age of the oldest waiting job, 0 without one; the leader's", ["model"]);
  const dead = registry.gauge(
    "switchyard_dead_letters",
    "Failed jobs whose inputs are kept so that they can be submitted again; the leader's",
    ["model"],
  );
  const hosts = registry.gauge("switchyard_hosts", "Registered hosts by state; the leader's", ["state"]);
  const waiting = registry.gauge("switchyard_tenant_queue_jobs", "Jobs that wait, by tenant; the leader's", ["tenant"]);
  const store = storeGauges(registry);

  const figures = new Map<string, Map<string, QueueGauges>>();
  let leads = false;
  let hostsNow: Parameters<ClusterMetrics["hostsSeen"]>[0] = new Map();
  let tenantsNow: ReadonlyMap<string, number> = new Map();
  leader.set(0);

  function showQueues(model: string): void {
    if (!leads) return;
    const total: QueueGauges = { waiting: 0, running: 0, oldestSeconds: 0, dead: 0 };
    for (const one of figures.get(model)?.values() ?? []) {
      total.waiting += one.waiting;
      total.running += one.running;
      total.dead += one.dead;
      total.oldestSeconds = Math.max(total.oldestSeconds, one.oldestSeconds);
    }
    queueJobs.set({ model, state: "queued" }, total.waiting);
    queueJobs.set({ model, state: "running" }, total.running);
    oldest.set({ model }, total.oldestSeconds);
    dead.set({ model }, total.dead);
  }

  function showHosts(): void {
    if (leads) for (const state of ["ready", "draining", "lost"] as const) hosts.set({ state }, hostsNow.get(state) ?? 0);
  }

  function showTenants(): void {
    waiting.reset();
    if (!leads) return;
    const sums = new Map<string, number>(tenants.named().map((tenant) => [tenant, 0]));
    for (const [tenant, jobs] of tenantsNow) {
      const label = tenants.labelOf(tenant);
      sums.set(label, (sums.get(label) ?? 0) + jobs);
    }
    for (const [tenant, jobs] of sums) waiting.set({ tenant }, jobs);
  }

  return {
    leading(now) {
      if (now === leads) return;
      leads = now;
      leader.set(leads ? 1 : 0);
      for (const model of figures.keys()) showQueues(model);
      showHosts();
      showTenants();
      if (leads) return;
      for (const gauge of [queueJobs, oldest, dead, hosts]) gauge.reset();
      store([]);
    },
    modelKnown(model) {
      if (!figures.has(model)) figures.set(model, new Map());
      showQueues(model);
    },
    modelGone(model) {
      figures.delete(model);
      for (const state of ["queued", "running"]) queueJobs.remove({ model, state });
      oldest.remove({ model });
      dead.remove({ model });
    },
    queueFigures({ model, tag }, now) {
      let queues = figures.get(model);
      if (!queues) {
        queues = new Map();
        figures.set(model, queues);
      }
      if (now.waiting + now.running + now.dead > 0) queues.set(tag, now);
      else queues.delete(tag);
      showQueues(model);
    },
    queueGone(tag) {
      for (const [model, queues] of figures) if (queues.delete(tag)) showQueues(model);
    },
    hostsSeen(byState) {
      hostsNow = byState;
      showHosts();
    },
    tenantsWaiting(jobs) {
      tenantsNow = jobs;
      showTenants();
    },
    storeServers: (servers) => store(leads ? servers : []),
  };
}

/** What the servers count themselves is shown as they told it last. */
function storeGauges(registry: MetricsRegistry): (servers: readonly StoreServerFigures[]) => void {
  const gauge = (name: string, help: string) => registry.gauge(`switchyard_redis_${name}`, `${help}; the leader's`, ["server"]);
  const counter = (name: string, help: string) => registry.counter(`switchyard_redis_${name}_total`, `${help}; the leader's`, ["server"]);
  type Value = (figures: StoreServerFigures) => number | undefined;
  const gauges: [ReturnType<typeof gauge>, Value][] = [
    [gauge("uptime_seconds", "For how long the server has run"), (one) => one.uptimeSeconds],
    [gauge("clients", "Connections of clients"), (one) => one.clients],
    [gauge("memory_used_bytes", "Memory that the server's data takes"), (one) => one.memoryBytes],
    [gauge("memory_limit_bytes", "maxmemory; 0 where there is none"), (one) => one.memoryLimitBytes],
    [gauge("keys", "Keys in all databases"), (one) => one.keys],
    [gauge("replicas", "Replicas that are connected"), (one) => one.replicas],
    [
      gauge("replica_lag_bytes", "By how much the replica farthest behind is behind; absent without replicas"),
      (one) => one.replicaLagBytes,
    ],
    [
      gauge("aof_written", "1 if the last write of the append-only file succeeded, else 0; absent where there is none"),
      (one) => (one.appendOnlyWritten === undefined ? undefined : Number(one.appendOnlyWritten)),
    ],
  ];
  const counters: [ReturnType<typeof counter>, Value][] = [
    [counter("commands", "Commands that the server ran, those in scripts too"), (one) => one.commands],
    [counter("cpu_seconds", "CPU time of the server, user and system"), (one) => one.cpuSeconds],
    [counter("received_bytes", "Bytes that the server received"), (one) => one.receivedBytes],
    [counter("sent_bytes", "Bytes that the server sent"), (one) => one.sentBytes],
    [counter("evicted_keys", "Keys that the server dropped for want of memory; none should be"), (one) => one.evictedKeys],
    [counter("rejected_connections", "Connections that the server refused, because it had too many"), (one) => one.rejectedConnections],
  ];
  return (servers) => {
    for (const [metric] of [...gauges, ...counters]) metric.reset();
    for (const one of servers) {
      const { server } = one;
      for (const [metric, value] of gauges) {
        const now = value(one);
        if (now !== undefined) metric.set({ server }, now);
      }
      for (const [metric, value] of counters) metric.of({ server }).inc(value(one));
    }
  };
}
