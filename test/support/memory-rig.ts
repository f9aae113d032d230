/** The rig on the memory store. */

import { isTerminal } from "@switchyard/protocol";
import { MemoryJobStore } from "../../coordinator/src/adapters/memory-job-store.ts";
import { systemClock } from "../../coordinator/src/clock.ts";
import { JobRig, OfferedTickets, type QueueAudit } from "./job-rig.ts";

export function memoryRig(clock: { nowMs(): number; monotonicMs(): number } = systemClock): JobRig {
  const offers = new OfferedTickets();
  const store = new MemoryJobStore({ clock, tickets: offers });
  const side = {
    take: store.take.bind(store),
    renew: store.renew.bind(store),
    claim: store.claim.bind(store),
    release: store.release.bind(store),
    commit: (step: Omit<Parameters<MemoryJobStore["commit"]>[0], "batchItems">) =>
      store.commit({ ...step, batchItems: step.outcomes.length }),
  };
  return new JobRig({ store, side, offers, audit: async (tag) => auditOf(store, tag) });
}

function auditOf(store: MemoryJobStore, tag: string): QueueAudit {
  const queue = store.queue(tag);
  const nowMs = store.nowMs();
  const jobs = [...queue.jobs.values()];
  const ids = (list: { record: { id: string } }[]): string[] => list.map(({ record }) => record.id);
  return {
    nowMs,
    jobs: new Map(
      jobs.map(({ record, failures, goneMs }) => {
        const { id, state, revision, fence, attempt } = record;
        return [id, { state, revision, fence, attempt, failures, ttlMs: goneMs === Number.POSITIVE_INFINITY ? -1 : goneMs - nowMs }];
      }),
    ),
    order: {
      interactive: ids(queue.waiting.ofClass("interactive")),
      standard: ids(queue.waiting.ofClass("standard")),
      batch: ids(queue.waiting.ofClass("batch")),
    },
    later: [...queue.later.keys()],
    dead: [...queue.dead.keys()],
    due: ids(jobs.filter(({ record }) => !isTerminal(record.state))),
    claims: [...queue.claims].map(([incarnation, { earlier, fences }]) => ({
      incarnation,
      jobs: [...fences, ...(earlier?.fences ?? [])].map(([id, fence]) => ({ id, fence })),
    })),
    tickets: [...queue.tickets.all].map(([id, { state, incarnation, untilMs }]) => ({
      id,
      state,
      incarnation: incarnation || "-",
      untilMs,
    })),
    immortal: ids(jobs.filter(({ record, goneMs }) => isTerminal(record.state) && !Number.isFinite(goneMs))),
  };
}
