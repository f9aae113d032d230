/** Hosts that die, stop or are lost, each on a real Redis: who gets their jobs and tickets, and what is still accepted of them. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { keys, newIncarnation, type ScriptName } from "@switchyard/protocol/redis";
import { RedisConnection } from "../../coordinator/src/adapters/redis-connection.ts";
import { RedisHosts } from "../../coordinator/src/adapters/redis-hosts.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { redisRigs } from "../support/file-rigs.ts";
import { clockPasses, eventually, type HostJob, lingeringHost, succeeded, ticketEndMs } from "../support/job-rig.ts";

const rigs = await redisRigs();

describe("hosts that die", () => {
  test("the ticket of a killed lingering host stops counting, and the next admit issues one for another host", async () => {
    const rig = rigs.rig();
    const { ticket } = await lingeringHost(rig);
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 1, "the lingering host was woken: no ticket yet");
    await clockPasses(rig.store, await ticketEndMs(rig, ticket)); // it never came
    await rig.admit({}, 2);
    assert.equal(rig.offered.length, 3, "the woken host does not count any more, and two hosts could use a ticket each");
  });

  test("the ticket of a killed lingering host stops counting, and the next sweep issues one for another host", async () => {
    const rig = rigs.rig();
    const { ticket } = await lingeringHost(rig);
    await rig.admit({}, 2);
    await clockPasses(rig.store, await ticketEndMs(rig, ticket));
    const { tickets } = await rig.store.sweep(rig.tag, 2, 1);
    assert.equal(tickets.length, 1);
    assert.ok(!(await rig.audit()).tickets.some(({ id }) => id === ticket), "the lost ticket is forgotten");
  });

  test("the jobs of a killed busy host return with their order, their attempt counted, and a fresh ticket", async () => {
    const rig = rigs.rig();
    const ids = [await rig.admit({ latestStartMs: 100 }), await rig.admit({ latestStartMs: 200 }), await rig.admit({ latestStartMs: 300 })];
    const { host, ticket } = await rig.hostWithTicket();
    assert.deepEqual(
      (await host.batch(ticket, { maxItems: 2 })).map(({ id }) => id),
      ids.slice(0, 2),
    );
    const { returned, tickets } = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    assert.equal(returned, 2);
    assert.equal(tickets.length, 1, "a fresh ticket for another host");
    const second = rig.host("host-2");
    assert.equal(await second.take(tickets[0] as string), "held");
    const again: HostJob[] = [];
    while (again.length < ids.length) {
      const jobs = await second.batch(tickets[0] as string);
      assert.equal(jobs.length, 1, "those that were running are under suspicion, and run alone");
      again.push(...jobs);
      await second.commit(
        tickets[0] as string,
        jobs.map((job) => succeeded(job)),
      );
    }
    assert.deepEqual(
      again.map(({ id }) => id),
      ids,
      "in the order of their first admission",
    );
    assert.deepEqual(
      again.map(({ attempt }) => attempt),
      [2, 2, 1],
    );
    assert.deepEqual(
      again.map(({ fence }) => fence),
      [2, 2, 1],
    );
  });

  test("a stopped host that resumes after its claims went back is refused everywhere, and the winner's bytes stay", async () => {
    const rig = rigs.rig();
    const id = await rig.admit();
    const { host: zombie, ticket } = await rig.hostWithTicket();
    const [stale] = await zombie.batch(ticket);
    const { tickets } = await rig.store.takeBack(rig.tag, zombie.incarnation, 1, 1);
    const winner = rig.host("host-2");
    await winner.take(tickets[0] as string);
    const [job] = await winner.batch(tickets[0] as string);
    assert.deepEqual(await winner.commit(tickets[0] as string, [succeeded(job!, Buffer.from("winner"))]), ["committed"]);

    assert.deepEqual(await zombie.commit(ticket, [succeeded(stale!, Buffer.from("zombie"))]), ["barred"]);
    assert.equal((await zombie.claim(ticket)).kind, "barred");
    assert.equal((await zombie.claim(ticket, { sequence: 1 })).kind, "barred", "a repeat of its old claim too");
    assert.equal(await zombie.renew(ticket), "barred");
    assert.equal(await zombie.take(tickets[0] as string), "barred");
    assert.deepEqual(await zombie.release(ticket), [], "nothing of its own is left to release");
    const record = await rig.record(id);
    assert.equal(record.state, "succeeded");
    assert.equal(Buffer.from((await rig.store.outputs(id, record.fence))!).toString(), "winner");
  });

  test("the same host starts again with a new incarnation and works at once", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const { host: gone, ticket } = await rig.hostWithTicket("host-1");
    await gone.batch(ticket);
    const { tickets } = await rig.store.takeBack(rig.tag, gone.incarnation, 1, 1);
    const again = rig.host("host-1");
    assert.equal(await again.take(tickets[0] as string), "held");
    assert.equal((await again.batch(tickets[0] as string, { sequence: 1 })).length, 1, "sequences begin anew");
  });

  test("a job that three hosts died on is failed as poison", async () => {
    const rig = rigs.rig();
    const id = await rig.admit({ maxAttempts: 10 });
    let ticket = rig.offered[0] as string;
    for (let death = 1; death <= 3; death++) {
      const host = rig.host(`host-${death}`);
      await host.take(ticket);
      await host.batch(ticket);
      const back = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
      assert.deepEqual([back.returned, back.failed], death < 3 ? [1, 0] : [0, 1]);
      ticket = back.tickets[0] ?? "";
    }
    const record = await rig.record(id);
    assert.equal(record.state, "failed");
    assert.equal(record.error?.code, "poison");
    assert.equal(record.attempt, 3);
  });

  test("taking back twice finds nothing left", async () => {
    const rig = rigs.rig();
    await rig.admit();
    const { host, ticket } = await rig.hostWithTicket();
    await host.batch(ticket);
    assert.equal((await rig.store.takeBack(rig.tag, host.incarnation, 1, 1)).returned, 1);
    const again = await rig.store.takeBack(rig.tag, host.incarnation, 1, 1);
    assert.deepEqual(again, { returned: 0, failed: 0, tickets: [] });
  });
});

describe("loss of presence", () => {
  const host = (incarnation: string): string => keys.host(incarnation);
  const script = (name: ScriptName, key: string, args: (string | number)[]) => rigs.script(name, key, args);

  test("a host is declared lost once, by the store's clock, and its later beats are refused", async () => {
    const incarnation = newIncarnation();
    assert.equal(await script("lose", host(incarnation), [40]), "none");
    const [, first] = (await script("heartbeat", host(incarnation), ["{}", "", "{}"])) as [number, string];
    assert.equal(first, "ready");
    assert.equal(await script("lose", host(incarnation), [5_000]), "present");
    await eventually("its beat grows old", async () => (await script("lose", host(incarnation), [40])) === "lost");
    assert.equal(await script("lose", host(incarnation), [40]), "lost");
    assert.equal(((await script("heartbeat", host(incarnation), ["{}", "", "{}"])) as [number, string])[1], "lost");
    assert.ok((await rigs.redis.pttl(host(incarnation))) > 0);
  });

  test("one that said goodbye, and is listed for a moment yet, is told from one that fell silent, and the time of each is known", async (t) => {
    const connection = new RedisConnection(rigs.url, "hosts", systemClock);
    t.after(() => connection.close());
    await connection.open();
    const hosts = new RedisHosts(connection);
    const begunMs = connection.nowMs();
    const [left, silent] = [newIncarnation(), newIncarnation()];
    for (const incarnation of [left, silent]) {
      const changing = JSON.stringify({ warm: [], loaded: {}, failures: {} });
      const facts = JSON.stringify({ id: incarnation, providers: [], cores: 1, memoryMb: 1, labels: {}, version: "0" });
      await script("heartbeat", host(incarnation), [changing, "", facts]);
      await rigs.redis.zadd(keys.hosts, begunMs, incarnation);
    }
    assert.equal(await script("lose", host(left), [-1]), "lost");
    await rigs.redis.hset(host(silent), "beat", begunMs - 3_500);
    assert.equal(await script("lose", host(silent), [3_000]), "lost");
    await hosts.refresh();
    const seen = new Map(hosts.snapshots().map((one) => [one.incarnation, one]));
    assert.deepEqual(
      [left, silent].map((one) => [seen.get(one)?.view.state, seen.get(one)?.hasLeft]),
      [
        ["lost", true],
        ["lost", false],
      ],
    );
    for (const one of [left, silent]) assert.ok(Math.abs(seen.get(one)!.lostMs! - begunMs) < 60_000);
  });
});
