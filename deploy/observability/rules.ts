/**
 * Recording and alert rules. Objectives are watched over several windows at once: an alert needs a long window, so that it means something, and a
 * short one, so that it ends soon after its cause. Names are level:metric:operation, as Prometheus has them.
 */

import { objectives, waitBudgets } from "./objectives.ts";

export interface RecordingRule {
  record: string;
  expr: string;
  labels?: Record<string, string>;
}

export interface AlertRule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: "page" | "ticket" };
  annotations: { summary: string; description: string; runbook_url: string };
}

export interface RuleGroup {
  name: string;
  interval?: string;
  rules: (RecordingRule | AlertRule)[];
}

const windows = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"] as const;
type Window = (typeof windows)[number];

/** The edge as Prometheus writes it: its third release adds the digit behind the point. */
const edge = (seconds: number): string => `le=~"${String(seconds).replace(".", "[.]")}([.]0)?"`;

interface Objective {
  /** Ends the names of its alerts and its runbook. */
  name: string;
  what: string;
  allowed: number;
  /** The recorded share of what went wrong, without its window. */
  record: string;
  shares: (window: Window) => { expr: string; labels?: Record<string, string> }[];
  /** Events in the window, with the labels of the share: below 100 no alert is worth waking anybody. */
  events: (window: Window) => string;
  /** What the alert is about, as a template of its labels. */
  subject: string;
}

const finished = (window: Window): string => `sum by (model) (increase(switchyard_jobs_finished_total{outcome!="cancelled"}[${window}]))`;

/** Of users: neither probes, which are many and always answered, nor paths that lead nowhere. */
const asked = {
  http: 'route!~"/livez|/readyz|/v2/health/.*|none"',
  grpc: 'method!~"ServerLive|ServerReady|Check|Watch"',
};
/** Either door may stand unused, and has no series then. */
const calls = (of: "rate" | "increase", window: Window, only: { http: string; grpc: string } = { http: "", grpc: "" }): string => {
  const terms = (["http", "grpc"] as const).map(
    (door) => `(sum(${of}(switchyard_${door}_request_seconds_count{${asked[door]}${only[door]}}[${window}])) or vector(0))`,
  );
  return `(${terms.join(" + ")})`;
};
const errors = (window: Window): string => calls("rate", window, { http: ',status="500"', grpc: ',code=~"INTERNAL|UNKNOWN"' });

export const objectiveRules: readonly Objective[] = [
  {
    name: "Deadline",
    what: "jobs miss their deadline",
    allowed: objectives.deadline,
    record: "model:switchyard_deadline_missed:ratio_rate",
    shares: (window) => [
      {
        expr: `sum by (model) (rate(switchyard_deadline_missed_total[${window}])) / (sum by (model) (rate(switchyard_jobs_finished_total{outcome!="cancelled"}[${window}])) > 0)`,
      },
    ],
    events: finished,
    subject: "{{ $labels.model }}",
  },
  {
    name: "Wait",
    what: "jobs wait longer than their class should",
    allowed: objectives.wait,
    record: "class:switchyard_job_wait_over_budget:ratio_rate",
    shares: (window) =>
      Object.entries(waitBudgets).map(([name, seconds]) => ({
        labels: { class: name },
        expr: `1 - sum(rate(switchyard_job_wait_seconds_bucket{class="${name}",${edge(seconds)}}[${window}])) / (sum(rate(switchyard_job_wait_seconds_count{class="${name}"}[${window}])) > 0)`,
      })),
    events: (window) => `sum by (class) (increase(switchyard_job_wait_seconds_count[${window}]))`,
    subject: "class {{ $labels.class }}",
  },
  {
    name: "Door",
    what: "calls are answered with an internal error",
    allowed: objectives.doors,
    record: "cluster:switchyard_door_errors:ratio_rate",
    shares: (window) => [{ expr: `${errors(window)} / (${calls("rate", window)} > 0)` }],
    events: (window) => calls("increase", window),
    subject: "the doors",
  },
];

/** Of the thirty days' budget: 2 % in an hour, 5 % in six hours; then 10 % in one day and in three. */
const burns = {
  Fast: {
    severity: "page",
    pairs: [
      { factor: 14.4, long: "1h", short: "5m" },
      { factor: 6, long: "6h", short: "30m" },
    ],
    pace: "so fast that the budget of thirty days ends within five",
  },
  Slowly: {
    severity: "ticket",
    pairs: [
      { factor: 3, long: "1d", short: "2h" },
      { factor: 1, long: "3d", short: "6h" },
    ],
    pace: "so often that the budget of thirty days does not last",
  },
} as const;

const fewest = 100;

const runbook = (page: string, alert: string): string => `docs/runbooks/${page}.md#${alert.toLowerCase()}`;

function burnAlerts({ allowed, events, name, record, subject, what }: Objective): AlertRule[] {
  return Object.entries(burns).map(([speed, { pace, pairs, severity }]) => {
    const alert = `Switchyard${name}BudgetBurns${speed}`;
    const conditions = pairs.map(({ factor, long, short }) => {
      const above = Number((factor * allowed).toPrecision(6));
      return `(${record}${long} > ${above} and ${record}${short} > ${above} and ${events(long)} > ${fewest})`;
    });
    return {
      alert,
      expr: conditions.join("\nor\n"),
      labels: { severity },
      annotations: {
        summary: `${subject}: ${what}, ${pace}`,
        description: `More than ${Number((100 * allowed).toPrecision(3))} % may not go wrong over thirty days. The overview dashboard shows since when and what else happened.`,
        runbook_url: runbook("objectives", alert),
      },
    };
  });
}

interface Cause {
  alert: string;
  expr: string;
  for: string;
  severity: "page" | "ticket";
  summary: string;
  description: string;
  /** Of docs/runbooks. */
  page: string;
}

const causes: readonly Cause[] = [
  {
    alert: "SwitchyardProcessDown",
    expr: 'up{job=~"switchyard-.*"} == 0',
    for: "1m",
    severity: "ticket",
    summary: "{{ $labels.job }} at {{ $labels.instance }} does not answer",
    description: "Its page of metrics could not be read for a minute. Others take over what it had in hand.",
    page: "processes",
  },
  {
    alert: "SwitchyardNoCoordinator",
    // not what it counts itself: without any nothing is exported, and one that is found by name is no target once it is gone
    expr: 'absent(up{job="switchyard-coordinator"} == 1)',
    for: "1m",
    severity: "page",
    summary: "no coordinator answers",
    description:
      "Nothing is admitted and nobody is answered. Alerts on objectives, queues and Redis are silent: they read what coordinators export.",
    page: "processes",
  },
  {
    alert: "SwitchyardMetricsAbsent",
    // there from a coordinator's start on; those of models, doors and jobs come with the first of them
    expr: 'absent(switchyard_leader{job="switchyard-coordinator"})',
    for: "10m",
    severity: "ticket",
    summary: "figures that objectives are made of are missing",
    description: "No coordinator exports them, or nothing reads its page: objectives are not watched.",
    page: "processes",
  },
  {
    alert: "SwitchyardNoHosts",
    expr: 'max(switchyard_hosts{state="ready"}) == 0',
    for: "1m",
    severity: "page",
    summary: "no host takes jobs",
    description: "Coordinators admit jobs while their deadlines allow it, and nobody runs them.",
    page: "hosts",
  },
  {
    alert: "SwitchyardHostsLost",
    expr: "max(increase(switchyard_hosts_lost_total[10m])) > 0",
    for: "0m",
    severity: "ticket",
    summary: "hosts stopped answering in the last ten minutes",
    description: "Their jobs went to other hosts after three seconds. Hosts that end by themselves are not counted.",
    page: "hosts",
  },
  {
    alert: "SwitchyardModelDoesNotLoad",
    expr: "sum by (model) (increase(switchyard_model_loads_failed_total[15m])) > 3",
    for: "0m",
    severity: "ticket",
    summary: "{{ $labels.model }} does not load",
    description: "Hosts tried several times in a quarter of an hour. Its jobs fail or wait for a host that can.",
    page: "hosts",
  },
  {
    alert: "SwitchyardTicketLeasesLost",
    expr: "sum(increase(switchyard_ticket_lock_lost_total[15m])) > 3",
    for: "0m",
    severity: "ticket",
    summary: "hosts cannot renew their ticket leases",
    description: "Their main loop is blocked, or the store is too slow to answer in time.",
    page: "hosts",
  },
  {
    alert: "SwitchyardRunsBeginLate",
    expr: "sum by (model) (increase(switchyard_runs_late_total[15m])) > 0",
    for: "0m",
    severity: "ticket",
    summary: "{{ $labels.model }}: runs began after their jobs' deadlines",
    description: "None should: hosts drop such jobs before they run. A clock stands still, or a host does between claim and run.",
    page: "hosts",
  },
  {
    alert: "SwitchyardQueueStands",
    expr: "max by (model) (switchyard_queue_oldest_seconds) > 60 unless sum by (model) (increase(switchyard_run_seconds_count[5m])) > 0",
    for: "2m",
    severity: "page",
    summary: "{{ $labels.model }}: jobs wait, and no host has run any for five minutes",
    description: "No host may or can run the model, or tickets are not delivered.",
    page: "queues",
  },
  {
    alert: "SwitchyardDeadLettersGrow",
    expr: "delta(model:switchyard_dead_letters:max[1h]) > 0",
    for: "0m",
    severity: "ticket",
    summary: "{{ $labels.model }}: dead letters have come in the last hour",
    description: "Jobs ran out of attempts, or took three hosts down. Their inputs are kept for a day.",
    page: "queues",
  },
  {
    alert: "SwitchyardRefusesMuch",
    expr: "cluster:switchyard_jobs_rejected:ratio_rate15m > 0.1 and (sum(increase(switchyard_jobs_admitted_total[15m])) + sum(increase(switchyard_jobs_rejected_total[15m]))) > 100",
    for: "10m",
    severity: "ticket",
    summary: "more than a tenth of all jobs is refused",
    description: "Refusals keep the deadlines of admitted jobs; clients see them as 503 or 429 with Retry-After.",
    page: "queues",
  },
  {
    alert: "SwitchyardNoLeader",
    expr: "(sum(switchyard_leader) or vector(0)) == 0",
    for: "1m",
    severity: "ticket",
    summary: "no coordinator leads",
    description: "Models are loaded on demand only, and what is true of the cluster is not exported.",
    page: "processes",
  },
  {
    alert: "SwitchyardSpansLost",
    expr: 'sum by (job, instance) (increase(switchyard_spans_total{result!="delivered"}[15m])) > 100',
    for: "5m",
    severity: "ticket",
    summary: "{{ $labels.job }} at {{ $labels.instance }} loses spans",
    description: "The collector does not take them, or more come than it takes: traces have holes. No job waits for them.",
    page: "processes",
  },
  {
    alert: "SwitchyardMcpServerAway",
    expr: "switchyard_mcp_server_connected == 0",
    for: "5m",
    severity: "ticket",
    summary: "the MCP server {{ $labels.server }} is away from the coordinator at {{ $labels.instance }}",
    description: "Calls of its tools there are answered tool_unavailable. Jobs and other servers are as ever.",
    page: "mcp-servers",
  },
  {
    alert: "SwitchyardTwoLeaders",
    expr: "sum(switchyard_leader) > 1",
    for: "1m",
    severity: "ticket",
    summary: "more than one coordinator leads",
    description: "They do not share one store, or a clock stands still. Sums over coordinators count the cluster twice.",
    page: "processes",
  },
  {
    alert: "SwitchyardStoreAway",
    expr: "switchyard_store_answering == 0",
    for: "30s",
    severity: "page",
    summary: "Redis does not answer the coordinator at {{ $labels.instance }}",
    description: "No job is admitted there, and callers are told to try again. What was admitted is kept by Redis.",
    page: "redis",
  },
  {
    alert: "SwitchyardRedisMemoryFills",
    expr: "max by (server) (switchyard_redis_memory_used_bytes) / (max by (server) (switchyard_redis_memory_limit_bytes) > 0) > 0.75",
    for: "5m",
    severity: "page",
    summary: "Redis at {{ $labels.server }} is more than 75 % full",
    description: "Above 80 % of maxmemory no jobs are admitted.",
    page: "redis",
  },
  {
    alert: "SwitchyardRedisEvicts",
    expr: "max by (server) (increase(switchyard_redis_evicted_keys_total[15m])) > 0",
    for: "0m",
    severity: "page",
    summary: "Redis at {{ $labels.server }} drops keys: jobs are lost",
    description: "Its maxmemory-policy is not noeviction; coordinators refuse to start with such a server.",
    page: "redis",
  },
  {
    alert: "SwitchyardRedisAppendOnlyFails",
    expr: "min by (server) (switchyard_redis_aof_written) == 0",
    for: "1m",
    severity: "page",
    summary: "Redis at {{ $labels.server }} cannot write its append-only file",
    description: "A restart would lose jobs. The disk is full, or fails.",
    page: "redis",
  },
  {
    alert: "SwitchyardRedisReplicaLags",
    expr: "max by (server) (switchyard_redis_replica_lag_bytes) > 10e6",
    for: "5m",
    severity: "ticket",
    summary: "a replica of Redis at {{ $labels.server }} is more than 10 MB behind",
    description: "A failover would lose what it has not seen; jobs of the replicated tier wait for it.",
    page: "redis",
  },
];

/** What dashboards and alerts share. */
const further: readonly RecordingRule[] = [
  { record: "model:switchyard_dead_letters:max", expr: "max by (model) (switchyard_dead_letters)" },
  {
    record: "model:switchyard_queue_backlog_device_seconds:estimate",
    expr: 'max by (model) (switchyard_queue_jobs{state="queued"}) * sum by (model) (rate(switchyard_run_seconds_sum[5m])) / (sum by (model) (rate(switchyard_batch_jobs_sum[5m])) > 0)',
  },
  {
    record: "cluster:switchyard_jobs_rejected:ratio_rate15m",
    expr: "sum(rate(switchyard_jobs_rejected_total[15m])) / (sum(rate(switchyard_jobs_admitted_total[15m])) + sum(rate(switchyard_jobs_rejected_total[15m])) > 0)",
  },
];

function recordings({ record, shares }: Objective): RecordingRule[] {
  return windows.flatMap((window) => shares(window).map((share) => ({ record: `${record}${window}`, ...share })));
}

export const ruleGroups: readonly RuleGroup[] = [
  { name: "switchyard-objectives", rules: objectiveRules.flatMap(recordings) },
  { name: "switchyard-recordings", rules: [...further] },
  { name: "switchyard-objective-alerts", rules: objectiveRules.flatMap(burnAlerts) },
  {
    name: "switchyard-cause-alerts",
    rules: causes.map(({ alert, description, expr, page, severity, summary, for: duration }) => ({
      ...{ alert, expr },
      ...(duration !== "0m" && { for: duration }),
      labels: { severity },
      annotations: { summary, description, runbook_url: runbook(page, alert) },
    })),
  },
];

export const alertRules: readonly AlertRule[] = ruleGroups.flatMap(({ rules }) => rules.filter((rule) => "alert" in rule));
