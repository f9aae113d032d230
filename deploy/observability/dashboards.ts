/** The dashboards. Every query runs against the running system in test/observability; a panel without data there fails. */

import type { Board, Panel } from "./board.ts";
import { objectives, waitBudgets } from "./objectives.ts";

const model = { name: "model", label: "Model", metric: "switchyard_jobs_admitted_total" };
const one = '{model=~"$model"}';

/** Quantiles of a histogram of seconds. */
function quantiles(title: string, about: string, metric: string, how: { match?: string; by?: string; exemplars?: true } = {}): Panel {
  const { by, exemplars, match = one } = how;
  const labels = by === undefined ? "le" : `le, ${by}`;
  const legend = by === undefined ? "" : `{{${by}}} `;
  return {
    ...{ title, about, unit: "s" },
    queries: [0.5, 0.95, 0.99].map((share) => ({
      expr: `histogram_quantile(${share}, sum by (${labels}) (rate(${metric}_bucket${match}[$__rate_interval])))`,
      legend: `${legend}p${100 * share}`,
      ...(exemplars && { exemplars }),
    })),
  };
}

const rate = (metric: string, by: string, match = one): string => `sum by (${by}) (rate(${metric}${match}[$__rate_interval]))`;

const attainment: Panel = {
  title: "Jobs in time",
  about: `Of the jobs that were admitted and not cancelled, the share that ended within their deadline, over the last hour. Objective: ${100 * (1 - objectives.deadline)} %.`,
  ...{ unit: "percentunit", form: "number" },
  queries: [{ expr: `1 - model:switchyard_deadline_missed:ratio_rate1h${one}`, legend: "{{model}}" }],
};

const refused: Panel = {
  title: "Refused",
  about: "Share of what was asked for that admission refused, by reason: read beside the jobs in time, which refusals keep up.",
  unit: "percentunit",
  queries: [
    {
      expr: `${rate("switchyard_jobs_rejected_total", "reason")} / ignoring (reason) group_left () (sum(rate(switchyard_jobs_admitted_total${one}[$__rate_interval])) + sum(rate(switchyard_jobs_rejected_total${one}[$__rate_interval]))) > 0`,
      legend: "{{reason}}",
    },
  ],
};

const leader: Panel = {
  title: "Leaders",
  about: "Coordinators that lead: they plan placement and export what is true of the cluster. One, always.",
  ...{ unit: "short", form: "number" },
  queries: [{ expr: "sum(switchyard_leader)", legend: "leaders" }],
};

export const overview: Board = {
  name: "overview",
  title: "Switchyard: overview",
  about: "What is slow, and why: objectives first, then rate, errors and durations of jobs, then what is behind them.",
  variables: [model],
  rows: [
    {
      title: "Objectives",
      panels: [
        attainment,
        {
          title: "Waits within budget",
          about: `Share of started jobs that waited no longer than their class should, over the last hour: interactive ${waitBudgets.interactive} s, standard ${waitBudgets.standard} s, batch ${waitBudgets.batch} s. Objective: ${100 * (1 - objectives.wait)} %.`,
          ...{ unit: "percentunit", form: "number" },
          queries: [{ expr: "1 - class:switchyard_job_wait_over_budget:ratio_rate1h", legend: "{{class}}" }],
        },
        {
          title: "Doors without errors",
          about: `Share of HTTP and gRPC calls that were not answered with an internal error, over the last hour. A refusal is an answer. Objective: ${100 * (1 - objectives.doors)} %.`,
          ...{ unit: "percentunit", form: "number" },
          queries: [{ expr: "1 - cluster:switchyard_door_errors:ratio_rate1h", legend: "doors" }],
        },
        leader,
        {
          title: "Error budget burnt, per window",
          about: "How many times faster than allowed missed deadlines use their budget up: above 1 it does not last its thirty days.",
          unit: "short",
          queries: ["5m", "1h", "6h"].map((window) => ({
            expr: `max(model:switchyard_deadline_missed:ratio_rate${window}${one}) / ${objectives.deadline}`,
            legend: window,
          })),
        },
        refused,
      ],
    },
    {
      title: "Jobs",
      panels: [
        {
          title: "Admitted",
          about: "Jobs accepted into queues a second.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_jobs_admitted_total", "model"), legend: "{{model}}" }],
        },
        {
          title: "Outcomes",
          about: "Jobs that ended a second, by outcome.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_jobs_finished_total", "outcome"), legend: "{{outcome}}" }],
        },
        quantiles("Admission to outcome", "How long jobs took in all, whatever their outcome.", "switchyard_job_e2e_seconds", {
          exemplars: true,
        }),
        quantiles("HTTP answers", "How long HTTP requests took, held calls and their waits included.", "switchyard_http_request_seconds", {
          match: "",
          exemplars: true,
        }),
        {
          title: "HTTP answers by status",
          about: "Requests answered a second, by status.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_http_request_seconds_count", "status", ""), legend: "{{status}}" }],
        },
        {
          title: "gRPC answers by code",
          about: "Calls, and messages of streams, answered a second, by code.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_grpc_request_seconds_count", "code", ""), legend: "{{code}}" }],
        },
      ],
    },
    {
      title: "Tools of MCP servers",
      panels: [
        {
          title: "MCP servers connected",
          about: "Share of the coordinators that are connected to each server. Those that are switched off are not counted.",
          unit: "percentunit",
          queries: [{ expr: "avg by (server) (switchyard_mcp_server_connected)", legend: "{{server}}" }],
        },
        {
          title: "Connections to MCP servers lost",
          about: "Connections that ended or could not be made, a second: a server that is started again and again shows here.",
          unit: "ops",
          queries: [{ expr: rate("switchyard_mcp_server_losses_total", "server", ""), legend: "{{server}}" }],
        },
        {
          title: "Calls of tools",
          about: "Calls a second by server and outcome: tool_error is the tool's own failure.",
          unit: "reqps",
          queries: [{ expr: `${rate("switchyard_mcp_tool_calls_total", "server, outcome", "")} > 0`, legend: "{{server}} {{outcome}}" }],
        },
        quantiles(
          "Time of tools",
          "How long calls that may have run took, the wait for their turn included.",
          "switchyard_mcp_tool_call_seconds",
          { match: "", by: "server", exemplars: true },
        ),
      ],
    },
    {
      title: "Processes",
      panels: [
        {
          title: "CPU",
          about: "Cores that each process keeps busy; a coordinator's main thread has one.",
          unit: "short",
          queries: [{ expr: 'rate(process_cpu_seconds_total{job=~"switchyard-.*"}[$__rate_interval])', legend: "{{job}} {{instance}}" }],
        },
        {
          title: "Memory",
          about: "Resident memory of each process.",
          unit: "bytes",
          queries: [{ expr: 'process_resident_memory_bytes{job=~"switchyard-.*"}', legend: "{{job}} {{instance}}" }],
        },
        {
          title: "Event loop's lag",
          about: "p99 of how long what comes due in a process has to wait for its turn.",
          unit: "s",
          queries: [{ expr: 'nodejs_eventloop_lag_p99_seconds{job=~"switchyard-.*"}', legend: "{{job}} {{instance}}" }],
        },
        {
          title: "Scrapes",
          about: "How long Prometheus takes to read each process' page.",
          unit: "s",
          queries: [{ expr: 'scrape_duration_seconds{job=~"switchyard-.*"}', legend: "{{job}} {{instance}}" }],
        },
        {
          title: "Spans",
          about: "Spans a second by what became of them: all but delivered are gaps in traces. None while tracing is off.",
          unit: "ops",
          queries: [{ expr: rate("switchyard_spans_total", "result", ""), legend: "{{result}}" }],
        },
      ],
    },
  ],
};

export const queues: Board = {
  name: "queues",
  title: "Switchyard: queues and deadlines",
  about: "What waits, for how long, and what became of deadlines.",
  variables: [model],
  rows: [
    {
      title: "Queues",
      panels: [
        {
          title: "Waiting",
          about: "Jobs that wait, by model.",
          unit: "short",
          queries: [{ expr: 'max by (model) (switchyard_queue_jobs{model=~"$model", state="queued"})', legend: "{{model}}" }],
        },
        {
          title: "Running",
          about: "Jobs that hosts have claimed, by model.",
          unit: "short",
          queries: [{ expr: 'max by (model) (switchyard_queue_jobs{model=~"$model", state="running"})', legend: "{{model}}" }],
        },
        {
          title: "Oldest waiting",
          about: "Age of the oldest waiting job of each model: it rises when nothing is claimed, of which histograms say nothing.",
          unit: "s",
          queries: [{ expr: `max by (model) (switchyard_queue_oldest_seconds${one})`, legend: "{{model}}" }],
        },
        {
          title: "Work that waits",
          about: "Device time that the waiting jobs will take, at what a job took lately.",
          unit: "s",
          queries: [{ expr: `model:switchyard_queue_backlog_device_seconds:estimate${one}`, legend: "{{model}}" }],
        },
        quantiles("Admission to claim", "How long jobs waited until a host took them, seen by hosts.", "switchyard_job_queue_seconds", {
          exemplars: true,
        }),
        quantiles("Wait by class", "Admission to the start of the run, of jobs that have ended.", "switchyard_job_wait_seconds", {
          by: "class",
        }),
        {
          title: "Dead letters",
          about: "Failed jobs whose inputs are kept so that they can be submitted again.",
          unit: "short",
          queries: [{ expr: `max by (model) (switchyard_dead_letters${one})`, legend: "{{model}}" }],
        },
        {
          title: "Jobs that came back",
          about: "Jobs a second that hosts lost or did not know of; each is run again.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_jobs_returned_total", "reason", ""), legend: "{{reason}}" }],
        },
      ],
    },
    {
      title: "Deadlines",
      panels: [
        attainment,
        {
          title: "Deadlines missed",
          about: "Jobs a second that ended after their deadline, or because of it, by class.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_deadline_missed_total", "class"), legend: "{{class}}" }],
        },
        {
          title: "Slack at the claim",
          about:
            "Time that was left to the deadline when a host took the job: p1 and p10. Near 0, more hosts or a longer deadline are needed.",
          unit: "s",
          queries: [0.01, 0.1].map((share) => ({
            expr: `histogram_quantile(${share}, sum by (le) (rate(switchyard_job_slack_seconds_bucket${one}[$__rate_interval])))`,
            legend: `p${100 * share}`,
          })),
        },
        {
          title: "Runs begun too late",
          about: "Jobs a second whose deadline had passed when their run began. None should be.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_runs_late_total", "model"), legend: "{{model}}" }],
        },
        refused,
        quantiles("Refusals", "How long it takes to say no; callers wait for it.", "switchyard_refusal_seconds", { match: "" }),
      ],
    },
    {
      title: "Beside the queue",
      panels: [
        {
          title: "Response cache",
          about: "Requests a second of models with a response cache: answered from it, joined to an equal one, or run.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_cache_requests_total", "result"), legend: "{{result}}" }],
        },
        {
          title: "Cache evictions",
          about: "Answers a second that gave way to newer ones before their time was over.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_cache_evicted_total", "model"), legend: "{{model}}" }],
        },
        {
          title: "Shadow requests",
          about: "Requests a second that were also sent to another version, by what became of that.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_shadow_requests_total", "result"), legend: "{{result}}" }],
        },
      ],
    },
  ],
};

const named = "* on (instance) group_left (host, device) switchyard_host_info";

export const hosts: Board = {
  name: "hosts",
  title: "Switchyard: hosts and GPUs",
  about: "How busy hosts are, what they hold, what goes wrong on them.",
  variables: [model],
  rows: [
    {
      title: "Hosts",
      panels: [
        ...(["ready", "draining", "lost"] as const).map(
          (state): Panel => ({
            title: `Hosts ${state}`,
            about: "Of those that are registered; lost ones are shown for a minute.",
            ...{ unit: "short", form: "number" },
            queries: [{ expr: `max(switchyard_hosts{state="${state}"})`, legend: state }],
          }),
        ),
        {
          title: "Coordinators and workers that answer",
          about: "Of all that Prometheus should read.",
          ...{ unit: "percentunit", form: "number" },
          queries: [{ expr: 'avg by (job) (up{job=~"switchyard-.*"})', legend: "{{job}}" }],
        },
        {
          title: "Device busy",
          about: "Share of time in which the host's device ran a model. A whole host at 1 is full.",
          unit: "percentunit",
          queries: [
            {
              expr: `sum by (instance) (rate(switchyard_run_seconds_sum${one}[$__rate_interval])) ${named}`,
              legend: "{{host}} ({{device}})",
            },
          ],
        },
        {
          title: "Tickets held",
          about: "Queues that each host serves at this moment.",
          unit: "short",
          queries: [{ expr: `switchyard_host_tickets ${named}`, legend: "{{host}}" }],
        },
        {
          title: "Models held",
          about: "Models that each host has loaded.",
          unit: "short",
          queries: [{ expr: `switchyard_host_models ${named}`, legend: "{{host}}" }],
        },
        {
          title: "Memory lent to models",
          about: "Size of the models' files as a share of what the host lends to models; what they take in memory is more.",
          unit: "percentunit",
          queries: [{ expr: `switchyard_host_model_bytes / switchyard_host_model_limit_bytes ${named}`, legend: "{{host}}" }],
        },
      ],
    },
    {
      title: "Runs",
      panels: [
        quantiles("Run of a batch", "How long the device takes for a batch.", "switchyard_run_seconds", { by: "model" }),
        {
          title: "Jobs in a batch",
          about: "Mean number of jobs in a run: more jobs, less device time for each.",
          unit: "short",
          queries: [
            {
              expr: `${rate("switchyard_batch_jobs_sum", "model")} / ${rate("switchyard_batch_jobs_count", "model")}`,
              legend: "{{model}}",
            },
          ],
        },
        {
          title: "Executions by outcome",
          about: "Executions a second: retry will be tried again, back was given back unrun, late could not have ended in time.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_attempts_total", "outcome"), legend: "{{outcome}}" }],
        },
        quantiles("Loads", "Loading and warming a model.", "switchyard_model_load_seconds", { match: "" }),
        {
          title: "Loads that failed",
          about: "Models a second that would not load.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_model_loads_failed_total", "model"), legend: "{{model}}" }],
        },
        {
          title: "Hosts and tickets lost",
          about: "Hosts that stopped answering, processes that were declared lost, ticket leases that could not be renewed; a second.",
          unit: "ops",
          queries: [
            { expr: "max(rate(switchyard_hosts_lost_total[$__rate_interval]))", legend: "hosts" },
            { expr: "sum(rate(switchyard_presence_lost_total[$__rate_interval]))", legend: "processes" },
            { expr: "sum(rate(switchyard_ticket_lock_lost_total[$__rate_interval]))", legend: "ticket leases" },
          ],
        },
      ],
    },
    {
      title: "GPUs (from dcgm-exporter)",
      panels: [
        {
          title: "GPU engines busy",
          about:
            "Share of time in which the graphics engine was active, from NVIDIA's dcgm-exporter. For efficiency; scale by waits, not by this.",
          unit: "percentunit",
          queries: [{ expr: "DCGM_FI_PROF_GR_ENGINE_ACTIVE", legend: "{{Hostname}} {{gpu}}" }],
        },
        {
          title: "GPU memory used",
          about: "Frame buffer in use, from NVIDIA's dcgm-exporter.",
          unit: "bytes",
          queries: [{ expr: "DCGM_FI_DEV_FB_USED * 1024 * 1024", legend: "{{Hostname}} {{gpu}}" }],
        },
      ],
    },
  ],
};

const tenantMatch = '{tenant=~"$tenant"}';

export const tenants: Board = {
  name: "tenants",
  title: "Switchyard: tenants",
  about: "Who takes how much, and who waits. The first 50 tenants of each coordinator have series of their own, the rest are other.",
  variables: [{ name: "tenant", label: "Tenant", metric: "switchyard_tenant_jobs_finished_total" }],
  rows: [
    {
      title: "Shares",
      panels: [
        {
          title: "Share of device time",
          about: "Of all device time of jobs that ended: under load it follows the tenants' weights.",
          unit: "percentunit",
          queries: [
            {
              expr: `${rate("switchyard_tenant_device_seconds_total", "tenant", tenantMatch)} / ignoring (tenant) group_left () (sum(rate(switchyard_tenant_device_seconds_total[$__rate_interval])) > 0)`,
              legend: "{{tenant}}",
            },
          ],
        },
        {
          title: "Device time",
          about: "Device seconds a second, by tenant.",
          unit: "short",
          queries: [{ expr: rate("switchyard_tenant_device_seconds_total", "tenant", tenantMatch), legend: "{{tenant}}" }],
        },
        {
          title: "Mean wait",
          about: "Admission to the start of the run, mean over the jobs that ended.",
          unit: "s",
          queries: [
            {
              expr: `${rate("switchyard_tenant_wait_seconds_total", "tenant", tenantMatch)} / (${rate("switchyard_tenant_jobs_finished_total", "tenant", tenantMatch)} > 0)`,
              legend: "{{tenant}}",
            },
          ],
        },
        {
          title: "Waiting",
          about: "Jobs that wait, by tenant.",
          unit: "short",
          queries: [{ expr: `max by (tenant) (switchyard_tenant_queue_jobs${tenantMatch})`, legend: "{{tenant}}" }],
        },
        {
          title: "Jobs",
          about: "Jobs that ended a second, by tenant.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_tenant_jobs_finished_total", "tenant", tenantMatch), legend: "{{tenant}}" }],
        },
        {
          title: "Jobs that did not succeed",
          about: "Jobs a second that failed, expired or were cancelled, by tenant.",
          unit: "reqps",
          queries: [
            {
              expr: 'sum by (tenant, outcome) (rate(switchyard_tenant_jobs_finished_total{tenant=~"$tenant", outcome!="succeeded"}[$__rate_interval]))',
              legend: "{{tenant}} {{outcome}}",
            },
          ],
        },
        {
          title: "Refused",
          about: "Jobs a second that admission refused, by tenant.",
          unit: "reqps",
          queries: [{ expr: rate("switchyard_tenant_jobs_rejected_total", "tenant", tenantMatch), legend: "{{tenant}}" }],
        },
      ],
    },
  ],
};

const serverMatch = '{server=~"$server"}';

export const redis: Board = {
  name: "redis",
  title: "Switchyard: Redis",
  about: "The store's servers, as the leading coordinator asks them every six seconds.",
  variables: [{ name: "server", label: "Server", metric: "switchyard_redis_uptime_seconds" }],
  rows: [
    {
      title: "Servers",
      panels: [
        {
          title: "Coordinators that reach the store",
          about: "1: all of them.",
          ...{ unit: "percentunit", form: "number" },
          queries: [{ expr: "avg(switchyard_store_answering)", legend: "reach it" }],
        },
        {
          title: "Up since",
          about: "For how long each server has run.",
          ...{ unit: "s", form: "number" },
          queries: [{ expr: 'max by (server) (switchyard_redis_uptime_seconds{server=~"$server"})', legend: "{{server}}" }],
        },
        {
          title: "Replicas",
          about: "Replicas that are connected, by server.",
          ...{ unit: "short", form: "number" },
          queries: [{ expr: 'max by (server) (switchyard_redis_replicas{server=~"$server"})', legend: "{{server}}" }],
        },
        {
          title: "Append-only file",
          about: "1: the last write of the append-only file succeeded.",
          ...{ unit: "short", form: "number" },
          queries: [{ expr: 'min by (server) (switchyard_redis_aof_written{server=~"$server"})', legend: "{{server}}" }],
        },
        {
          title: "Memory",
          about: "Used, as a share of maxmemory. Above 80 % no jobs are admitted.",
          unit: "percentunit",
          queries: [
            {
              expr: 'max by (server) (switchyard_redis_memory_used_bytes{server=~"$server"}) / (max by (server) (switchyard_redis_memory_limit_bytes{server=~"$server"}) > 0)',
              legend: "{{server}}",
            },
          ],
        },
        {
          title: "Memory used",
          about: "Memory that each server's data takes.",
          unit: "bytes",
          queries: [{ expr: 'max by (server) (switchyard_redis_memory_used_bytes{server=~"$server"})', legend: "{{server}}" }],
        },
        quantiles("Round trip", "From coordinators and hosts to the store and back, by a ping.", "switchyard_redis_roundtrip_seconds", {
          match: "",
          by: "job",
        }),
        {
          title: "CPU",
          about: "Share of a core that each server uses; it has one for commands.",
          unit: "percentunit",
          queries: [{ expr: rate("switchyard_redis_cpu_seconds_total", "server", serverMatch), legend: "{{server}}" }],
        },
        {
          title: "Commands",
          about: "Commands a second, those in scripts too.",
          unit: "ops",
          queries: [{ expr: rate("switchyard_redis_commands_total", "server", serverMatch), legend: "{{server}}" }],
        },
        {
          title: "Network",
          about: "Bytes a second that each server received and sent.",
          unit: "Bps",
          queries: [
            { expr: rate("switchyard_redis_received_bytes_total", "server", serverMatch), legend: "{{server}} in" },
            { expr: rate("switchyard_redis_sent_bytes_total", "server", serverMatch), legend: "{{server}} out" },
          ],
        },
        {
          title: "Keys",
          about: "Keys in each server.",
          unit: "short",
          queries: [{ expr: 'max by (server) (switchyard_redis_keys{server=~"$server"})', legend: "{{server}}" }],
        },
        {
          title: "Connections",
          about: "Connections of clients.",
          unit: "short",
          queries: [{ expr: 'max by (server) (switchyard_redis_clients{server=~"$server"})', legend: "{{server}}" }],
        },
        {
          title: "What should not happen",
          about: "Keys evicted and connections refused a second: both are 0 in a healthy store.",
          unit: "ops",
          queries: [
            { expr: rate("switchyard_redis_evicted_keys_total", "server", serverMatch), legend: "{{server}} evicted" },
            { expr: rate("switchyard_redis_rejected_connections_total", "server", serverMatch), legend: "{{server}} refused" },
          ],
        },
        {
          title: "Replication lag",
          about: "By how much the replica farthest behind is behind; nothing without replicas.",
          unit: "bytes",
          queries: [{ expr: 'max by (server) (switchyard_redis_replica_lag_bytes{server=~"$server"})', legend: "{{server}}" }],
        },
        {
          title: "Tickets offered",
          about: "Tickets a second that were handed to the ticket queue, or refused by it.",
          unit: "ops",
          queries: [{ expr: rate("switchyard_tickets_offered_total", "accepted", ""), legend: "accepted {{accepted}}" }],
        },
      ],
    },
  ],
};

export const boards: readonly Board[] = [overview, queues, hosts, tenants, redis];
