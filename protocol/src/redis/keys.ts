/**
 * Every Redis key of Switchyard: its type, its only writers and its lifetime. No key is parsed back.
 * All keys of one queue share the hash tag `{<queue tag>}`; Lua scripts get `base` and append the names marked (lua).
 */

const prefix = "sy";

/** Prefix of BullMQ's own keys; the queue name carries the braces. (lua looks at locks of tickets) */
export const bullPrefix = "sy:bull";

/** BullMQ queue name of one queue's tickets; with a profile, of those that only hosts of that profile are to take. */
export const ticketQueueName = (tag: string, profile?: string): string => (profile === undefined ? `{${tag}}` : `{${tag}@${profile}}`);

/**
 * BullMQ queue name of tickets for queues whose model no host holds warm: one for all hosts, and one for each profile, which carries the
 * tickets of queues to which it matters who takes them.
 */
export const coldQueueName = (profile?: string): string => (profile === undefined ? "{cold}" : `{cold@${profile}}`);

/** Rises when a key or a record is laid out differently: versions that differ in it must not share a Redis. */
export const storeFormat = "2";

/** Hashes of what came by the interface, by their names among the keys. */
export type LifecycleHash = "uploads" | "modelConfigs" | "aliases" | "modelStates";

export const keys = {
  /**
   * What scripts append to, for one queue:
   * - `job:<id>` string, the record: see lua/lib-record.lua. Written by admit, claim, commit, expire, cancel, take-back. Lives until its end + retention,
   *   that of a dead letter a day at least. Those of held calls that ended together with others have no time to live, but stand in `ended`.
   * - `ended` sorted set of `<id> <id> …`, what ended in one commit, by when to forget it: see lua/lib-ended.lua. Written by commit; forget takes what is over.
   * - `spared` set of ids of those that were kept on meanwhile. Written by keep; forget takes them with those beside them.
   * - `attempts:<id>` list of attempts that let the job wait again, 32 at most: see lua/lib-attempts.lua. Written by commit, take-back and return-claim;
   *   lives as long as the record may.
   * - `tomb:<id>` string `<state> <finishedMs> <flow>`, written with the end of a kept job; lives retention + 24 h.
   * - `order:<class>:<tenant>` sorted set of one flow's waiting ids by order key. Written by every script that lets a job wait or ends
   *   its waiting.
   * - `flows` hash `<class>:<tenant>` → the tenant's weight, of flows that may have waiting jobs. Written with `order`; whoever counts removes idle ones.
   * - `weights` hash of tenants' weights that are not 1. Written by admit.
   * - `shares` hash: the virtual clock and each flow's finish tag. Written by claim; removed when the queue is empty.
   * - `arrivals` hash: `<class>:<tenant>` and `<class>` → how many items came lately, of a class also of how many flows, while flows share the queue: see lua/lib-arrivals. Written by admit; lives 64 s after the last.
   * - `later` sorted set of waiting ids by the time at which they may run again. Same writers.
   * - `due` sorted set of ids without an outcome by deadline. Same writers.
   * - `index` sorted set of kept ids by creation; `recent` the same for held ones (120 s, 10,000 at most).
   * - `dead` sorted set of dead letters by their end, 1,000 at most; `dead-bytes` hash `<id>` → bytes of its inputs, `sum` → of all, 64 MiB at most.
   *   Written by take-back, commit, sweep and discard; live a day after the last one.
   * - `tickets` hash `<ticket id>` → `<state> <incarnation or -> <until ms>`; of one that lingers, or was handed over, more: lua/lib-handing.
   * - `claims` hash `<incarnation>` → `<sequence> <freeAt ms> [told] <id>=<fence> …`, at most one outstanding claim each; `told` once its
   *   host has committed some of it.
   * - `barred` sorted set of incarnations by when to forget them.
   * - `runs` hash of what runs took, by device class, see scheduling/run-reports.ts. Written by report; lives as long as the queue.
   * - `tally` hash of counters, see scheduling/queue-tally.ts, and `told <process>` → the number of what it told last and when. Written by report
   *   and by every script that ends jobs; lives as long as the queue.
   * - `cache:<key>` string, framed outputs; `cache-ends` sorted set of `<key> <bytes>` by when they end; `cache-bytes` string, their sum.
   *   Written by cache-ask and cache-settle; an entry lives as model.yaml says, sum and list as long as the last one.
   * - `flight:<key>` list, `<leader> <since ms>`, then followers. Same writers; removed when settled, else gone a minute after its last deadline.
   * - `mark` string, empty: a write after which to wait until it is durable. Written by mark; lives a minute.
   * - `clock` hash: ticket counter, where the trimming of `index` stands, mean items of the waiting jobs (an estimate) and until when arrivals are
   *   counted, both written by admit.
   */
  base: (tag: string): string => `${prefix}:{${tag}}:`,

  /**
   * string, framed inputs. Written by admit's pipeline; deleted with the job's end. With a TTL (deadline + margin), but for several that were written in one
   * transaction with their jobs; those of a dead letter live a day. (lua deletes and prolongs)
   */
  input: (tag: string, id: string): string => `${prefix}:{${tag}}:in:${id}`,

  /**
   * hash incarnation → `<since ms> <host id>`, hosts that load this queue's model, or died of it. Written by hosts; an entry goes when its load is over, all of
   * them when one succeeds; lives an hour.
   */
  loadMarks: (tag: string): string => `${prefix}:{${tag}}:load-marks`,

  /** string, the host that tries to load a model which others died of. Written by hosts; lives ten seconds. */
  loadTrial: (tag: string): string => `${prefix}:{${tag}}:load-trial`,

  /** list of the ids of a host's last batch, for the command behind its claim that reads their inputs. Written by claim; lives a minute. (lua) */
  batch: (tag: string, incarnation: string): string => `${prefix}:{${tag}}:batch:${incarnation}`,

  /** string, framed outputs of one fence that are too large for the record. Written by its host before commit; lives as long as the result. */
  output: (tag: string, id: string, fence: number): string => `${prefix}:{${tag}}:out:${id}:${fence}`,

  /** string, the layout of all the others. Written by the first coordinator; never changed. */
  format: `${prefix}:format`,

  /** set of queue tags that ever had a job. Written by coordinators; a queue leaves it when its model is gone and it is empty. */
  queues: `${prefix}:queues`,

  /** hash, one host's registration and heartbeat. Written by the host; `lost` by the presence script. Lives 1 h after the last beat. */
  host: (incarnation: string): string => `${prefix}:{host-${incarnation}}`,

  /** sorted set of incarnations by registration time (Redis ms). Written by hosts at start; trimmed by coordinators. */
  hosts: `${prefix}:hosts`,

  /** hash `<model>@<version>` → ModelVersion as JSON. Written by coordinators from the repository. */
  models: `${prefix}:models`,

  /** hash queue tag → ChoosyQueue as JSON, of queues for jobs with a requirement of their own. Written by coordinators; an entry goes with its queue. */
  choosyQueues: `${prefix}:choosy-queues`,

  /** hash `<model>@<version>` → SHA-256, the first content ever published under that number. Written by coordinators, never changed. */
  digests: `${prefix}:model-digests`,

  /** string counter, raised with every change of `models` and `choosyQueues`. */
  modelsRevision: `${prefix}:models-revision`,

  /** hash `<model>@<version>` → UploadedVersion as JSON, of versions that came by the interface. Written by coordinators, an entry once; never expires. */
  uploads: `${prefix}:uploads`,

  /** hash file name → `<sha256> <bytes>`, weights that were sent ahead of a version's graph. Written by coordinators; lives an hour. */
  staged: (model: string, version: number): string => `${prefix}:staged:${model}@${version}`,

  /** hash model → its configuration as JSON, of models without a folder. Written by coordinators; never expires. */
  modelConfigs: `${prefix}:model-configs`,

  /** hash `<model>/<alias>` → ModelAlias as JSON. Written by coordinators; never expires. */
  aliases: `${prefix}:aliases`,

  /** hash model → ModelState as JSON, of models that were loaded or unloaded by request. Written by coordinators; never expires. */
  modelStates: `${prefix}:model-states`,

  /** hash queue tag → until when (Redis ms) a host should load its model because somebody asked. Written by coordinators; removed when over. */
  wantedLoads: `${prefix}:wanted-loads`,

  /** hash of counters by LifecycleHash, each raised after every change of that hash. Written by coordinators; never expires. */
  lifecycleRevisions: `${prefix}:lifecycle-revisions`,

  /**
   * string counter, raised beside those. The one counter of coordinators of the release before: they read it and raise no other, so that both
   * releases may share a Redis while one takes the other's place. Written by coordinators; never expires. To go with the next release.
   */
  lifecycleRevision: `${prefix}:lifecycle-revision`,

  /** string, which coordinator plans placement. Written by coordinators; lives 3 s after it was last renewed. */
  placementLease: `${prefix}:placement-lease`,

  /** hash incarnation → what that host should load, drop and keep, as JSON. Written by the coordinator that plans; lives 10 s after its last round. */
  placement: `${prefix}:placement`,

  /** hash coordinator → what it counted in that slot of two seconds, as JSON. Written by coordinators once the slot is over; lives ten minutes. */
  figures: (slot: number): string => `${prefix}:figures:${slot}`,

  /** hash host id → since when (Redis ms) it should take no jobs because somebody asked. Written by coordinators; removed when it may again. */
  drains: `${prefix}:drains`,

  /**
   * hash `<server>/<tool>` → what was decided about a tool of another server, `asked <server>/<tool>` → which calls asked for it since, both
   * parts of a StoredConsent as JSON. Written by coordinators; both go when somebody forgets the decision.
   */
  toolConsents: `${prefix}:tool-consents`,

  /** stream, one entry for each tool call; about 10,000 are kept. Written by coordinators; never expires. */
  toolAudit: `${prefix}:tool-audit`,

  /** stream, one entry for each consent to a tool; about 10,000 are kept. Written by coordinators; never expires. */
  toolConsentAudit: `${prefix}:tool-consent-audit`,

  /** string, id of the folder in which coordinators keep large values. Written by coordinators, again and again; never expires. */
  blobFolder: `${prefix}:blob-folder`,

  /**
   * string, name of the folder within that one in which coordinators leave inputs as files: ten characters of base32, the cluster's own. Written once by
   * whichever coordinator finds none; never expires.
   */
  inputFiles: `${prefix}:input-files`,

  /** string, the credential that hosts show to coordinators for large values. Written once by whichever coordinator finds none; never expires. */
  hostToken: `${prefix}:host-token`,

  /** string, what coordinators sign with what clients keep for them. Written once by whichever coordinator finds none; never expires. */
  sharedSecret: `${prefix}:shared-secret`,

  /** string `<fingerprint> <job id>`, one idempotency key of a tenant. Written before the record; lives as long as the result. */
  idempotency: (tenant: string, keyDigest: string): string => `${prefix}:{tenant-${tenant}}:key:${keyDigest}`,
} as const;

export const channels = {
  /** Notices of outcomes for one coordinator's waiters: records, see lua/lib-finish.lua. */
  notices: (coordinator: string): string => `${prefix}:notices:${coordinator}`,
  /** Queue tags with new work, for one host that lingers. */
  wake: (incarnation: string): string => `${prefix}:wake:${incarnation}`,
} as const;
