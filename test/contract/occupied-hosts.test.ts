/** A ticket whose holder cannot act stands for nobody else: where its device is at another queue's run, and where it is about to leave. On both stores. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { redisRigs } from "../support/file-rigs.ts";
import { type JobRig, succeeded } from "../support/job-rig.ts";
import { memoryRig } from "../support/memory-rig.ts";

const rigs = await redisRigs();

function sentences(open: () => JobRig): void {
  const admit = (rig: JobRig, matchingHosts: number): Promise<string> => rig.admit({ timeoutMs: 3_600_000 }, matchingHosts, 8);

  test("a ticket that is taken by a host whose device is at another queue's run does not keep others from being asked", async () => {
    for (const how of ["taken", "renewed"] as const) {
      const rig = open();
      await admit(rig, 2);
      const [ticket] = rig.offered as [string];
      const occupied = rig.host("host-1");
      assert.equal(await occupied.take(ticket, how === "taken" ? "occupied" : ""), "held");
      if (how === "renewed") {
        await admit(rig, 2);
        assert.equal(rig.offered.length, 1, "its holder can act");
        assert.equal(await occupied.renew(ticket, "occupied"), "renewed");
      }
      await admit(rig, 2);
      assert.equal(rig.offered.length, 2, how);
      const idle = rig.host("host-2");
      assert.equal(await idle.take(rig.offered[1] as string), "held");
      assert.ok((await idle.batch(rig.offered[1] as string)).length > 0);
      assert.equal((await occupied.claim(ticket)).kind, "empty", "the ticket is still its holder's");
    }
  });

  test("where there is no other host, an occupied one is asked once", async () => {
    const rig = open();
    await admit(rig, 1);
    const host = rig.host("host-1");
    assert.equal(await host.take(rig.offered[0] as string, "occupied"), "held");
    await admit(rig, 1);
    assert.equal(rig.offered.length, 1);
    assert.equal((await host.batch(rig.offered[0] as string)).length, 2);
  });

  test("the busy ticket of a host that leaves is none of the others'", async () => {
    const rig = open();
    await admit(rig, 2);
    const { host: leaving, ticket } = await rig.hostWithTicket();
    const jobs = await leaving.batch(ticket);
    await admit(rig, 1);
    assert.equal(rig.offered.length, 1, "the one host that is left is busy, as far as is known");
    assert.equal(await leaving.renew(ticket, "leaving"), "renewed");
    await admit(rig, 1);
    assert.equal(rig.offered.length, 2);
    assert.deepEqual(
      await leaving.commit(
        ticket,
        jobs.map((job) => succeeded(job)),
      ),
      jobs.map(() => "committed"),
      "what it runs is its own until the end",
    );
    assert.equal((await rig.audit()).tickets.find(({ id }) => id === ticket)?.state, "leaving", "and its commit brings it back to nobody");
  });
}

describe("the Redis store", () => sentences(() => rigs.rig()));

describe("the memory store", () => sentences(() => memoryRig()));
