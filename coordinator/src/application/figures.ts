/**
 * What this coordinator counts, slot by slot, and what all of them counted in the last minutes. Counting is a few additions a job; a slot goes
 * to the store once, when it is over; the store is read only while somebody looks, and a slot no more once nobody can still leave it. What is
 * lost with a coordinator that dies is at most what it counted in its last two seconds; one that drains leaves all.
 */

import type { FigureBoard } from "../ports/figure-board.ts";
import type { JobNotice } from "../ports/job-store.ts";
import type { Metrics, QueueGauges } from "../ports/metrics.ts";
import { addSlot, emptySlot, isEmpty, modelIn, observe, raise, type Slot, tenantIn } from "./figure-slots.ts";

export const slotMs = 2_000;
/** Slots that a series spans: five minutes. */
export const mostSlots = 150;
/** Coordinators have left a slot by then: their clocks are the store's, and they look twice in a slot; one that is busy looks late. */
const settledMs = 2_500;
/** Slots after which a slot is read no more: thirty seconds, in which a coordinator that could not reach the store has left its own. */
const finalAfter = 15;

export interface VersionNow {
  model: string;
  version: number;
  now: QueueGauges;
}

interface Parts {
  board: FigureBoard;
  /** The store's clock. */
  nowMs: () => number;
}

export interface NumberedSlot {
  number: number;
  slot: Slot;
}

export class Figures {
  readonly #parts: Parts;
  /** What was counted here and not left yet. */
  readonly #counting = new Map<number, Slot>();
  /** What was left, as written, for as long as it is shown: the store's clock may step back, and what is left anew replaces what was. */
  readonly #left = new Map<number, string>();
  /** Settled slots of all coordinators. */
  readonly #settled = new Map<number, { slot: Slot; isFinal: boolean }>();
  #reading: Promise<void> | undefined;
  /** Of the last answers, by how many slots were asked for: the same ones, until something was read. */
  readonly #shown = new Map<number, readonly NumberedSlot[]>();
  /** By tag. */
  readonly #queues = new Map<string, VersionNow>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  #slot(): Slot {
    const number = this.#current();
    let slot = this.#counting.get(number);
    if (!slot) {
      const left = this.#left.get(number);
      slot = left === undefined ? emptySlot() : (JSON.parse(left) as Slot);
      this.#left.delete(number);
      this.#counting.set(number, slot);
    }
    return slot;
  }

  /** The same metrics, with what figures are made of counted here too. */
  counting<M extends Metrics>(metrics: M): M {
    return {
      ...metrics,
      admitted: (model, jobClass) => {
        metrics.admitted(model, jobClass);
        modelIn(this.#slot(), model).admitted += 1;
      },
      rejected: (model, jobClass, reason, tenant) => {
        metrics.rejected(model, jobClass, reason, tenant);
        raise(modelIn(this.#slot(), model).refused, reason);
      },
      finished: (model, jobClass, outcome, took) => {
        metrics.finished(model, jobClass, outcome, took);
        if (model === undefined) return;
        const figures = modelIn(this.#slot(), model);
        raise(figures.ended, outcome);
        observe(figures.total, 1_000 * took.e2eSeconds);
        if (took.queueSeconds !== undefined) observe(figures.queue, 1_000 * took.queueSeconds);
      },
      queueFigures: (queue, now) => {
        metrics.queueFigures(queue, now);
        const { model, tag, version } = queue;
        this.#queues.set(tag, { model, version, now });
      },
      queueGone: (tag) => {
        metrics.queueGone(tag);
        this.#queues.delete(tag);
      },
      modelGone: (model) => {
        metrics.modelGone(model);
        for (const [key, queue] of this.#queues) if (queue.model === model) this.#queues.delete(key);
      },
    };
  }

  /** A job has ended, and this coordinator is the one that counts it. Its share of the run is its tenant's. */
  ended({ batchItems, createdMs, items, runMs, startedMs, tenant }: JobNotice): void {
    const figures = tenantIn(this.#slot(), tenant);
    figures.jobs += 1;
    figures.deviceMs += batchItems > 0 ? (runMs * items) / batchItems : 0;
    if (startedMs > 0) observe(figures.queue, startedMs - createdMs);
  }

  /** What its queues held when they were swept last, by version. */
  queues(): readonly VersionNow[] {
    const byVersion = new Map<string, VersionNow>();
    for (const { model, now, version } of this.#queues.values()) {
      const name = `${model}@${version}`;
      const others = byVersion.get(name)?.now;
      byVersion.set(name, { model, version, now: others ? together(others, now) : now });
    }
    return [...byVersion.values()];
  }

  /**
   * One round of the loop: leaves slots that are over. One that the store did not take stays for the next round, for as long as it is of use.
   * `all`: the last time, also the slot that is not over.
   */
  async leave({ all = false } = {}): Promise<void> {
    const current = this.#current();
    const isShown = (number: number): boolean => Math.abs(current - number) < mostSlots;
    for (const number of this.#left.keys()) if (!isShown(number)) this.#left.delete(number);
    for (const [number, slot] of this.#counting) {
      if (number >= current && isShown(number) && !all) continue;
      this.#counting.delete(number);
      if (isEmpty(slot) || !isShown(number)) continue;
      const text = JSON.stringify(slot);
      this.#left.set(number, text); // before the store has it: what is counted meanwhile begins with it
      try {
        await this.#parts.board.leave(number, text);
      } catch (error) {
        this.#left.delete(number);
        if (!this.#counting.has(number)) this.#counting.set(number, slot); // else counted on, from what was left
        throw error;
      }
    }
  }

  #current(): number {
    return Math.floor(this.#parts.nowMs() / slotMs);
  }

  /**
   * Slots of all coordinators, oldest first, up to the last one that is settled. Reads what is not known for good; calls share one read, and until
   * the next one they are given the very same list, by which what was made of it can be kept.
   */
  async slots(count: number): Promise<readonly NumberedSlot[]> {
    const last = Math.floor((this.#parts.nowMs() - settledMs) / slotMs) - 1;
    const numbers = Array.from({ length: count }, (_, at) => last - count + 1 + at);
    while (this.#reading !== undefined) await this.#reading;
    if (numbers.some((number) => !this.#settled.has(number))) {
      this.#reading = this.#read(numbers.filter((number) => !this.#settled.get(number)?.isFinal)).finally(() => {
        this.#reading = undefined;
      });
      await this.#reading;
    }
    const before = this.#shown.get(count);
    if (before?.at(-1)?.number === last) return before;
    const shown = numbers.map((number) => ({ number, slot: this.#settled.get(number)?.slot ?? emptySlot() }));
    this.#shown.set(count, shown);
    return shown;
  }

  /** Oldest first. */
  async #read(numbers: readonly number[]): Promise<void> {
    const texts = await this.#parts.board.read(numbers);
    const last = numbers.at(-1)!;
    this.#shown.clear();
    for (const [at, number] of numbers.entries()) {
      const sum = emptySlot();
      for (const text of texts[at] ?? []) addSlot(sum, JSON.parse(text) as Slot);
      this.#settled.set(number, { slot: sum, isFinal: last - number >= finalAfter });
    }
    // by what was asked, not by the clock, which may have jumped; what was read ahead of a clock that stepped back was read too early
    for (const number of this.#settled.keys()) if (number < last - 2 * mostSlots || number > last) this.#settled.delete(number);
  }
}

const together = (one: QueueGauges, other: QueueGauges): QueueGauges => ({
  waiting: one.waiting + other.waiting,
  running: one.running + other.running,
  oldestSeconds: Math.max(one.oldestSeconds, other.oldestSeconds),
  dead: one.dead + other.dead,
});
