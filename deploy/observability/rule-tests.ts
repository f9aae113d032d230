/**
 * For each alert when it must fire and when it must not, and what panels without data here ask, as `promtool test rules` reads it. Series are in promtool's
 * notation, a value each step: a minute, or five where it takes hours until something is seen.
 */

import { boards } from "./dashboards.ts";
import { alertRules, ruleGroups } from "./rules.ts";

interface Situation {
  /** Series and their values. */
  series: Record<string, string>;
  /** When to look: after minutes, or after hours. */
  at: string;
}

/** With the labels that the alert then has, beside its severity. */
type Firing = Situation & { labels?: Record<string, string> };

interface Cases {
  fires: Firing | Firing[];
  silent: Situation | Situation[];
}

const finished = 'switchyard_jobs_finished_total{model="digits",class="standard",outcome="succeeded"}';
const missed = 'switchyard_deadline_missed_total{model="digits",class="standard"}';
const inBudget = 'switchyard_job_wait_seconds_bucket{model="digits",class="standard",le="10"}';
const waited = 'switchyard_job_wait_seconds_count{model="digits",class="standard"}';
const answered = 'switchyard_http_request_seconds_count{route="/v1/jobs",method="POST",status="202"}';
const broken = 'switchyard_http_request_seconds_count{route="/v1/jobs",method="POST",status="500"}';
const probed = 'switchyard_http_request_seconds_count{route="/livez",method="GET",status="200"}';
const lost = 'switchyard_http_request_seconds_count{route="none",method="GET",status="404"}';
const checked = 'switchyard_grpc_request_seconds_count{method="Check",code="OK"}';
const probeBroken = 'switchyard_http_request_seconds_count{route="/v2/health/ready",method="GET",status="500"}';
const called = 'switchyard_grpc_request_seconds_count{method="ModelInfer",code="OK"}';
const callBroken = 'switchyard_grpc_request_seconds_count{method="ModelInfer",code="INTERNAL"}';
const coordinators = { job: "switchyard-coordinator" };
const ofCoordinator = (metric: string): string => `${metric}{job="switchyard-coordinator",instance="c:8002"}`;
const one = (metric: string, value: string, at = "20m"): Situation => ({ series: { [metric]: value }, at });

/** 20 % go wrong for an hour and a half, at 100 a minute; and at one a minute, which is too few to say anything. */
const fast = { total: "0+100x90", wrong: "0+20x90", good: "0+80x90" };
const rare = { total: "0+1x90", wrong: "0+1x90", good: "0+0x90" };
/** 4 % for a day and more; and 0.4 %. */
const slow = { total: "0+500x360", wrong: "0+20x360", good: "0+480x360" };
const fine = { total: "0+5000x360", wrong: "0+20x360", good: "0+4980x360" };

const deadline = ({ total, wrong }: typeof fast, at: string): Situation => ({ series: { [finished]: total, [missed]: wrong }, at });
const wait = ({ total, good }: typeof fast, at: string): Situation => ({ series: { [waited]: total, [inBudget]: good }, at });
const door = (good: string, wrong: string, at: string): Situation => ({ series: { [answered]: good, [broken]: wrong }, at });

const traced = { job: "switchyard-worker", instance: "w:8003" };
const spans = (result: string): string => `switchyard_spans_total{job="switchyard-worker",instance="w:8003",result="${result}"}`;

const results = { server: "results", instance: "c:8002" };
const connected = 'switchyard_mcp_server_connected{server="results",instance="c:8002"}';

const model = { model: "digits" };
const server = { server: "10.0.0.1:6379" };
const ofServer = (metric: string): string => `switchyard_redis_${metric}{server="10.0.0.1:6379"}`;

export const ruleCases: Readonly<Record<string, Cases>> = {
  SwitchyardDeadlineBudgetBurnsFast: { fires: { ...deadline(fast, "80m"), labels: model }, silent: deadline(rare, "80m") },
  SwitchyardDeadlineBudgetBurnsSlowly: { fires: { ...deadline(slow, "29h"), labels: model }, silent: deadline(fine, "29h") },
  SwitchyardWaitBudgetBurnsFast: { fires: { ...wait(fast, "80m"), labels: { class: "standard" } }, silent: wait(rare, "80m") },
  SwitchyardWaitBudgetBurnsSlowly: { fires: { ...wait(slow, "29h"), labels: { class: "standard" } }, silent: wait(fine, "29h") },
  SwitchyardDoorBudgetBurnsFast: {
    fires: [
      door("0+80x90", "0+20x90", "80m"),
      // with probes in the sum 0.5 % of all would be errors
      { series: { [answered]: "0+80x90", [broken]: "0+20x90", [probed]: "0+4000x90" }, at: "80m" },
      { series: { [answered]: "0+80x90", [broken]: "0+20x90", [lost]: "0+4000x90" }, at: "80m" },
      { series: { [answered]: "0+80x90", [broken]: "0+20x90", [checked]: "0+4000x90" }, at: "80m" },
      { series: { [called]: "0+80x90", [callBroken]: "0+20x90" }, at: "80m" },
    ],
    silent: [
      door("0+0x90", "0+1x90", "80m"),
      { series: { [answered]: "0+100x90", [probed]: "0+100x90", [probeBroken]: "0+100x90" }, at: "80m" },
    ],
  },
  SwitchyardDoorBudgetBurnsSlowly: { fires: door("0+500x360", "0+5x360", "29h"), silent: door("0+50000x360", "0+5x360", "29h") },
  SwitchyardProcessDown: {
    fires: {
      ...one('up{job="switchyard-worker",instance="w:8003"}', "1x5 0x20"),
      labels: { job: "switchyard-worker", instance: "w:8003" },
    },
    silent: one('up{job="something-else",instance="x:1"}', "0x20"),
  },
  SwitchyardNoCoordinator: {
    fires: [
      one(ofCoordinator("up"), "1x5 0x20"),
      // a container that is stopped has no name any more, and leaves the targets; workers are still there
      { series: { [ofCoordinator("up")]: "1x5 _x20", 'up{job="switchyard-worker",instance="w:8003"}': "1x25" }, at: "20m" },
    ],
    silent: {
      series: { [ofCoordinator("up")]: "1x5 0x20", 'up{job="switchyard-coordinator",instance="d:8002"}': "1x25" },
      at: "20m",
    },
  },
  SwitchyardMetricsAbsent: {
    fires: { ...one(ofCoordinator("up"), "1x20"), labels: coordinators },
    // a cluster without models that nobody has called yet
    silent: one(ofCoordinator("switchyard_leader"), "1x20"),
  },
  SwitchyardNoHosts: { fires: one('switchyard_hosts{state="ready"}', "1x5 0x20"), silent: one('switchyard_hosts{state="lost"}', "0x20") },
  SwitchyardHostsLost: { fires: one("switchyard_hosts_lost_total", "0x15 1x10"), silent: one("switchyard_hosts_lost_total", "1x30") },
  SwitchyardModelDoesNotLoad: {
    fires: { ...one('switchyard_model_loads_failed_total{model="digits"}', "0+1x20"), labels: model },
    silent: one('switchyard_model_loads_failed_total{model="digits"}', "0x10 1x10"),
  },
  SwitchyardTicketLeasesLost: {
    fires: one("switchyard_ticket_lock_lost_total", "0+1x20"),
    silent: one("switchyard_ticket_lock_lost_total", "0x10 1x10"),
  },
  SwitchyardRunsBeginLate: {
    fires: { ...one('switchyard_runs_late_total{model="digits"}', "0x10 1x10"), labels: model },
    silent: one('switchyard_runs_late_total{model="digits"}', "3x20"),
  },
  SwitchyardQueueStands: {
    fires: [
      { ...one('switchyard_queue_oldest_seconds{model="digits"}', "0+60x20"), labels: model },
      {
        // claimed again and again, and given back unrun
        series: {
          'switchyard_queue_oldest_seconds{model="digits"}': "0+60x20",
          'switchyard_attempts_total{model="digits",outcome="retry"}': "0+5x20",
          'switchyard_attempts_total{model="digits",outcome="back"}': "0+5x20",
          'switchyard_attempts_total{model="digits",outcome="late"}': "0+5x20",
          'switchyard_run_seconds_count{model="digits"}': "7x20",
        },
        at: "20m",
        labels: model,
      },
    ],
    silent: {
      series: {
        'switchyard_queue_oldest_seconds{model="digits"}': "0+60x20",
        'switchyard_run_seconds_count{model="digits"}': "0+5x20",
      },
      at: "20m",
    },
  },
  SwitchyardDeadLettersGrow: {
    fires: { ...one('switchyard_dead_letters{model="digits"}', "2x70 3x20", "80m"), labels: model },
    silent: one('switchyard_dead_letters{model="digits"}', "3x90", "80m"),
  },
  SwitchyardRefusesMuch: {
    fires: {
      series: {
        'switchyard_jobs_admitted_total{model="digits",class="standard"}': "0+80x60",
        'switchyard_jobs_rejected_total{model="digits",class="standard",reason="queue_full"}': "0+20x60",
      },
      at: "40m",
    },
    silent: {
      series: {
        'switchyard_jobs_admitted_total{model="digits",class="standard"}': "0+1x60",
        'switchyard_jobs_rejected_total{model="digits",class="standard",reason="queue_full"}': "0+1x60",
      },
      at: "40m",
    },
  },
  SwitchyardNoLeader: {
    fires: [
      { series: { 'switchyard_leader{instance="a"}': "1x5 0x20", 'switchyard_leader{instance="b"}': "0x25" }, at: "20m" },
      one('switchyard_leader{instance="a"}', "1x5 _x20"),
    ],
    silent: { series: { 'switchyard_leader{instance="a"}': "1x25", 'switchyard_leader{instance="b"}': "0x25" }, at: "20m" },
  },
  SwitchyardSpansLost: {
    fires: [
      { ...one(spans("failed"), "0+10x30", "30m"), labels: traced },
      { ...one(spans("dropped"), "0x10 0+500x20", "30m"), labels: traced },
    ],
    silent: [
      one(spans("delivered"), "0+1000x30", "30m"),
      // a collector that was started anew: one post of a few, and then a quiet quarter of an hour
      one(spans("failed"), "0x5 60x25", "30m"),
      one(spans("failed"), "0x5 5000x30", "30m"),
    ],
  },
  SwitchyardMcpServerAway: {
    fires: [
      { ...one(connected, "1x5 0x20"), labels: results },
      // known, and never reached
      { ...one(connected, "0x20", "10m"), labels: results },
    ],
    silent: [
      one(connected, "1x5 0x20", "10m"),
      one(connected, "1x5 0x3 1x1 0x3 1x1 0x3"),
      // it left the configuration
      one(connected, "1x5 0x2 _x20"),
    ],
  },
  SwitchyardTwoLeaders: {
    fires: { series: { 'switchyard_leader{instance="a"}': "1x25", 'switchyard_leader{instance="b"}': "1x25" }, at: "20m" },
    silent: { series: { 'switchyard_leader{instance="a"}': "1x25", 'switchyard_leader{instance="b"}': "0x25" }, at: "20m" },
  },
  SwitchyardStoreAway: {
    fires: { ...one('switchyard_store_answering{instance="a"}', "1x5 0x20"), labels: { instance: "a" } },
    silent: one('switchyard_store_answering{instance="a"}', "1x25"),
  },
  SwitchyardRedisMemoryFills: {
    fires: { series: { [ofServer("memory_used_bytes")]: "80x20", [ofServer("memory_limit_bytes")]: "100x20" }, at: "20m", labels: server },
    silent: { series: { [ofServer("memory_used_bytes")]: "80x20", [ofServer("memory_limit_bytes")]: "0x20" }, at: "20m" },
  },
  SwitchyardRedisEvicts: {
    fires: { ...one(ofServer("evicted_keys_total"), "0x10 7x10"), labels: server },
    silent: one(ofServer("evicted_keys_total"), "7x20"),
  },
  SwitchyardRedisAppendOnlyFails: {
    fires: { ...one(ofServer("aof_written"), "1x5 0x20"), labels: server },
    silent: one(ofServer("aof_written"), "1x25"),
  },
  SwitchyardRedisReplicaLags: {
    fires: { ...one(ofServer("replica_lag_bytes"), "20000000x20"), labels: server },
    silent: one(ofServer("replica_lag_bytes"), "1000x20"),
  },
};

/** Panels for which no machine of ours has series: what they ask is judged by series as the exporter makes them. */
const panelCases: readonly { title: string; series: Record<string, string>; samples: { labels: string; value: number }[] }[] = [
  {
    title: "GPU engines busy",
    series: { 'DCGM_FI_PROF_GR_ENGINE_ACTIVE{Hostname="gpu-1",gpu="0"}': "0.5+0x5" },
    samples: [{ labels: 'DCGM_FI_PROF_GR_ENGINE_ACTIVE{Hostname="gpu-1",gpu="0"}', value: 0.5 }],
  },
  {
    title: "GPU memory used",
    series: { 'DCGM_FI_DEV_FB_USED{Hostname="gpu-1",gpu="0"}': "1024+0x5" },
    samples: [{ labels: '{Hostname="gpu-1",gpu="0"}', value: 1024 ** 3 }],
  },
  {
    title: "Replication lag",
    series: { 'switchyard_redis_replica_lag_bytes{server="10.0.0.1:6379",instance="a"}': "700+0x5" },
    samples: [{ labels: '{server="10.0.0.1:6379"}', value: 700 }],
  },
];

function panelTests(): object[] {
  const panels = boards.flatMap(({ rows }) => rows.flatMap((row) => row.panels));
  return panelCases.map(({ samples, series, title }) => {
    const expr = panels.find((panel) => panel.title === title)?.queries[0]?.expr;
    if (expr === undefined) throw new Error(`there is no panel ${title}`);
    return {
      interval: "1m",
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      promql_expr_test: [{ expr: expr.replace("$server", ".*"), eval_time: "5m", exp_samples: samples }],
    };
  });
}

const filled = (template: string, labels: Record<string, string>): string =>
  template.replace(/\{\{ \$labels\.(\w+) \}\}/g, (_whole, label: string) => labels[label] ?? "");

const paces = { minutes: { interval: "1m", evaluation_interval: "2m" }, hours: { interval: "5m", evaluation_interval: "60m" } } as const;
type Pace = keyof typeof paces;
const paceOf = ({ at }: Situation): Pace => (at.endsWith("h") ? "hours" : "minutes");

/** Constants in promtool's older notation, which has no short form for them. */
const notation = (values: string): string => values.replace(/(^| )(\d+)x/g, "$1$2+0x");

/**
 * What promtool is given, as an object, of what is seen within minutes or within hours: evaluated every other minute, a day of it would take a minute.
 * Throws when an alert has no cases.
 */
export function ruleTestsFile(ruleFiles: readonly string[], pace: Pace): object {
  const { evaluation_interval, interval } = paces[pace];
  const test = (alert: string, { at, series }: Situation, expected: object[]): object => ({
    interval,
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values: notation(values) })),
    alert_rule_test: [{ eval_time: at, alertname: alert, exp_alerts: expected }],
  });
  const tests = alertRules.flatMap(({ alert, annotations, labels }) => {
    const cases = ruleCases[alert];
    if (cases === undefined) throw new Error(`${alert} has no cases in rule-tests.ts`);
    const firing = [cases.fires].flat().map((fires) => {
      const seen = fires.labels ?? {};
      const texts = Object.fromEntries(Object.entries(annotations).map(([name, text]) => [name, filled(text, seen)]));
      return { situation: fires, expected: [{ exp_labels: { ...labels, ...seen }, exp_annotations: texts }] };
    });
    const silent = [cases.silent].flat().map((situation) => ({ situation, expected: [] }));
    return [...firing, ...silent].flatMap(({ expected, situation }) =>
      paceOf(situation) === pace ? [test(alert, situation, expected)] : [],
    );
  });
  // alerts read what was recorded in the same moment: with steps this long there is nothing older that still counts
  const order = ruleGroups.map(({ name }) => name);
  return {
    rule_files: [...ruleFiles],
    evaluation_interval,
    group_eval_order: order,
    tests: [...tests, ...(pace === "minutes" ? panelTests() : [])],
  };
}
