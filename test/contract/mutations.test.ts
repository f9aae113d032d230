/**
 * Shows that the tests of the protocol can see: each rule is taken out of the Lua text on its way to Redis, and the scenario that the rule
 * is for must then go wrong. A rule that could be removed unnoticed would be no rule.
 */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { clockPasses, type JobRig, runningForAShortTime, succeeded, type TestHost, timePasses } from "../support/job-rig.ts";
import { startTestRedis, type TestRedis } from "../support/redis.ts";
import { type LuaPatch, RedisRigs } from "../support/redis-rig.ts";

let server: TestRedis;

before(async () => {
  server = await startTestRedis();
});

after(async () => {
  await server?.stop();
});

/** A patch that must change something. */
function without(file: string, rule: string, instead: string): { patch: LuaPatch; applied: () => boolean } {
  let applied = false;
  const patch: LuaPatch = (name, text) => {
    if (name !== file || !text.includes(rule)) return text;
    applied = true;
    return text.replace(rule, () => instead);
  };
  return { patch, applied: () => applied };
}

/** Two jobs of held calls that ended in one commit. */
async function endedTogether(rig: JobRig): Promise<[string, string]> {
  const wishes = { held: true, ttlMs: 60_000 };
  const ids: [string, string] = [await rig.admit(wishes, 1, 2), await rig.admit(wishes, 1, 2)];
  const { host, ticket } = await rig.hostWithTicket();
  const batch = await host.batch(ticket, { maxItems: 2 });
  await host.commit(
    ticket,
    batch.map((job) => succeeded(job)),
  );
  return ids;
}

interface Mutation {
  rule: string;
  file: string;
  text: string;
  instead: string;
  /** Throws an AssertionError where the rule does not hold. */
  scenario: (rig: JobRig) => Promise<void>;
}

/** A new host takes the one job that waits and gives it back unrun. */
async function handBack(rig: JobRig): Promise<void> {
  const host = rig.host();
  const { tickets } = await rig.store.sweep(rig.tag, 1, 1);
  const ticket = tickets.at(-1) ?? rig.offered.at(-1)!;
  await host.take(ticket);
  const [job] = await host.batch(ticket);
  await host.commit(ticket, [{ ...job!, outcome: "back" }]);
  for (const issued of await host.release(ticket)) rig.offers.offer(rig.tag, issued);
}

/** A host that lingers after its first job, with its claim of that sequence made ahead. */
async function withStanding(rig: JobRig, sequence: number): Promise<{ host: TestHost; ticket: string }> {
  await rig.admit();
  const { host, ticket } = await rig.hostWithTicket();
  const [job] = await host.batch(ticket);
  await host.commit(ticket, [succeeded(job!)], { lingerMs: 30_000, standing: `${sequence} ${host.hostId} 500 16 10 -` });
  return { host, ticket };
}

async function sweptTwice(rig: JobRig): Promise<void> {
  for (let at = 0; at < 2; at++) {
    await timePasses(rig, 100);
    await rig.store.sweep(rig.tag, 2, 1, ["one", "another"]);
  }
}

const mutations: Mutation[] = [
  {
    rule: "only the fence that runs may end a job",
    file: "commit.lua",
    text: "return ownFence == fence",
    instead: "return ownFence",
    async scenario(rig) {
      const id = await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      const [old] = await host.batch(ticket);
      await rig.store.returnClaim(rig.tag, host.incarnation, 1);
      await host.batch(ticket);
      assert.deepEqual(await host.commit(ticket, [succeeded(old!)]), ["stale"]);
      assert.equal((await rig.record(id)).state, "running");
    },
  },
  {
    rule: "nothing succeeds after its deadline",
    file: "commit.lua",
    text: "if deadline < now then",
    instead: "if false then",
    async scenario(rig) {
      const { host, job, ticket } = await runningForAShortTime(rig);
      await clockPasses(rig.store, job.deadlineMs);
      assert.deepEqual(await host.commit(ticket, [succeeded(job)]), ["expired"]);
    },
  },
  {
    rule: "a claim that is repeated is the same batch",
    file: "claim.lua",
    text: "if last == sequence then",
    instead: "if false then",
    async scenario(rig) {
      for (let at = 0; at < 2; at++) await rig.admit({ latestStartMs: at });
      const { host, ticket } = await rig.hostWithTicket();
      const jobs = await host.batch(ticket, { sequence: 1, maxItems: 1 });
      const again = await host.claim(ticket, { sequence: 1, maxItems: 1 });
      assert.deepEqual(again.kind === "batch" && again.jobs, jobs);
    },
  },
  {
    rule: "a claim that arrives again after its commit takes nothing",
    file: "claim.lua",
    text: "if told then return { 'stale_sequence' } end",
    instead: "",
    async scenario(rig) {
      for (let at = 0; at < 2; at++) await rig.admit({ latestStartMs: at });
      const { host, ticket } = await rig.hostWithTicket();
      await host.commit(
        ticket,
        (await host.batch(ticket, { maxItems: 1 })).map((job) => succeeded(job)),
      );
      assert.equal((await host.claim(ticket, { sequence: 1 })).kind, "stale_sequence");
    },
  },
  {
    rule: "what ended together is not forgotten before its time",
    file: "lib-ended.lua",
    text: "base .. 'ended', int(untilMs),",
    instead: "base .. 'ended', '1',",
    async scenario(rig) {
      const [id] = await endedTogether(rig);
      await rig.store.forgetEnded(rig.tag);
      assert.equal((await rig.store.peek([id])).get(id)?.state, "succeeded");
    },
  },
  {
    rule: "a host that was declared lost claims nothing more",
    file: "claim.lua",
    text: "if redis.call('ZSCORE', base .. 'barred', incarnation) then return { 'barred' } end",
    instead: "",
    async scenario(rig) {
      await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
      assert.equal((await host.claim(ticket)).kind, "barred");
    },
  },
  {
    rule: "only a ticket's last taker claims under it",
    file: "claim.lua",
    text: "if holder ~= incarnation then",
    instead: "if not holder then",
    async scenario(rig) {
      await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      await rig.host("host-2").take(ticket);
      assert.equal((await host.claim(ticket)).kind, "not_yours");
    },
  },
  {
    rule: "a ticket lingers only where no job is left",
    file: "commit.lua",
    text: "elseif ARGV[5] ~= '0' and redis.call('EXISTS', base .. 'due') == 0 then",
    instead: "elseif ARGV[5] ~= '0' then",
    async scenario(rig) {
      for (let at = 0; at < 2; at++) await rig.admit({ latestStartMs: at });
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket, { maxItems: 1 });
      await host.commit(ticket, [succeeded(job!)], { lingerMs: 1_000 });
      assert.equal((await host.claim(ticket, { lingerMs: 1_000, follows: true })).kind, "batch");
    },
  },
  {
    rule: "a claim behind a commit looks when its ticket was woken",
    file: "claim.lua",
    text: "and state == 'lingering' and tonumber(till) > now then",
    instead: "then",
    async scenario(rig) {
      await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket);
      await host.commit(ticket, [succeeded(job!)], { lingerMs: 1_000 });
      await rig.admit();
      assert.equal((await host.claim(ticket, { lingerMs: 1_000, follows: true })).kind, "batch");
    },
  },
  {
    rule: "what was handed over is its host's from the look on",
    file: "claim.lua",
    text: "if state == 'handed' or state == 'held' then redis.call",
    instead: "if false then redis.call",
    async scenario(rig) {
      const { host, ticket } = await withStanding(rig, 2);
      const id = await rig.admit();
      await host.batch(ticket);
      await sweptTwice(rig);
      assert.equal((await rig.record(id)).state, "running");
    },
  },
  {
    rule: "nothing starts after its deadline",
    file: "claim.lua",
    text: "if job.isLate then",
    instead: "if false then",
    async scenario(rig) {
      const id = await rig.admit({ timeoutMs: 15 });
      const { host, ticket } = await rig.hostWithTicket();
      await clockPasses(rig.store, (await rig.record(id)).deadlineMs);
      assert.equal((await host.claim(ticket)).kind, "empty");
    },
  },
  {
    rule: "success needs stored outputs",
    file: "commit.lua",
    text: "if redis.call('EXISTS', key) == 0 then return 'no_output' end",
    instead: "",
    async scenario(rig) {
      const id = await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      await host.batch(ticket);
      assert.deepEqual(await host.commit(ticket, [{ id, fence: 1, outcome: "succeeded" }]), ["no_output"]);
    },
  },
  {
    rule: "a job that may be what its host died of is claimed alone",
    file: "claim.lua",
    text: "return deaths ~= '0' or",
    instead: "return",
    async scenario(rig) {
      for (let at = 0; at < 2; at++) await rig.admit();
      const { host, ticket } = await rig.hostWithTicket();
      await host.batch(ticket);
      const { tickets } = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
      const next = rig.host("host-2");
      await next.take(tickets[0]!);
      assert.equal((await next.batch(tickets[0]!)).length, 1);
    },
  },
  {
    rule: "the inputs of a dead letter stay",
    file: "commit.lua",
    text: "if not buried[id] then inputs",
    instead: "if true then inputs",
    async scenario(rig) {
      const id = await rig.admit({ maxAttempts: 1 });
      const { host, ticket } = await rig.hostWithTicket();
      const [job] = await host.batch(ticket);
      await host.commit(ticket, [{ ...job!, outcome: "retry", error: { code: "run_failed", detail: "", retryable: true } }]);
      assert.notEqual(await rig.store.inputs(id), undefined);
    },
  },
  {
    rule: "dead letters give way to newer ones",
    file: "lib-dead.lua",
    text: "> mostDeadBytes do",
    instead: "> 10 * mostDeadBytes do",
    async scenario(rig) {
      const ids: string[] = [];
      for (let at = 0; at < 10; at++) ids.push(await rig.admit({ maxAttempts: 1, inputs: [new Uint8Array(7_000_000)] }));
      const { host, ticket } = await rig.hostWithTicket();
      const error = { code: "run_failed", detail: "", retryable: true };
      await host.commit(
        ticket,
        (await host.batch(ticket)).map((job) => ({ ...job, outcome: "retry", error })),
      );
      assert.equal((await rig.store.inputsKept(ids)).size, 9);
    },
  },
  {
    rule: "an attempt that lets its job wait again is noted",
    file: "commit.lua",
    text: "  noteAttempt(base, id, record, now, outcome == 'back' and 'handed_back' or 'failed', runMs, batchItems, err)\n",
    instead: "",
    async scenario(rig) {
      const id = await rig.admit();
      await handBack(rig);
      assert.equal((await rig.store.attempts(id)).length, 1);
    },
  },
  {
    rule: "notes of attempts are bounded",
    file: "lib-attempts.lua",
    text: "local mostAttempts, mostErrorBytes = 32",
    instead: "local mostAttempts, mostErrorBytes = 33",
    async scenario(rig) {
      const id = await rig.admit();
      for (let turn = 0; turn < 34; turn++) await handBack(rig);
      assert.equal((await rig.store.attempts(id)).length, 32);
    },
  },
];

for (const { rule, file, text, instead, scenario } of mutations) {
  test(`without the rule that ${rule}, its scenario goes wrong`, async () => {
    const whole = await RedisRigs.open(server.url);
    const { patch, applied } = without(file, text, instead);
    const mutated = await RedisRigs.open(server.url, patch);
    try {
      assert.ok(applied(), `${file} no longer says: ${text}`);
      await scenario(whole.rig());
      await assert.rejects(scenario(mutated.rig()), assert.AssertionError);
    } finally {
      await whole.close();
      await mutated.close();
    }
  });
}
