/**
 * Loaded into every worker before its program (`--import`): runs of the real runtime take as long as a device would need and leave a line
 * each in a log of executions, so that a history can be checked against what really ran. Nothing of the worker is replaced.
 * CHAOS_DEVICE is JSON of DeviceSettings.
 */

import { appendFileSync, existsSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import type { Tensor } from "onnxruntime-node";
import { rowMark } from "./device-model.ts";

export interface DeviceSettings {
  log: string;
  host: string;
  minMs: number;
  maxMs: number;
  /** Rows of jobs whose numbers divide by this end the process while they run. */
  deadlyEvery?: number;
  /** They do so while this file is there; always where none is named. */
  deadlyWhile?: string;
  /** Rows of jobs whose numbers divide by this fail their batch. */
  failingEvery?: number;
  /** Rows of jobs whose numbers divide by `every` run for so long. */
  slow?: { every: number; ms: number };
  /** Runs begin and do not end while this file is there. */
  heldWhile?: string;
  /** On SIGUSR2 the main loop stands still for so long. */
  blockMs?: number;
  /** By how much the process's clock is wrong; with `onSignal` only from SIGUSR2 on. */
  clock?: { offByMs: number; onSignal: boolean };
}

const text = process.env.CHAOS_DEVICE;
const trueNow = Date.now;
if (text !== undefined) {
  const settings = JSON.parse(text) as DeviceSettings;
  // sessions live on runner threads; the main loop has none, and does not load the runtime
  if (!isMainThread) await wrap(settings);
  if (settings.clock && !settings.clock.onSignal) setClock(settings.clock.offByMs);
  if (isMainThread) {
    process.on("SIGUSR2", () => {
      if (settings.blockMs !== undefined) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, settings.blockMs);
      if (settings.clock) setClock(settings.clock.offByMs);
    });
  }
}

function setClock(offByMs: number): void {
  const True = Date;
  globalThis.Date = class extends True {
    constructor(...given: []) {
      if (given.length === 0) super(trueNow() + offByMs);
      else super(...given);
    }
    static override now(): number {
      return trueNow() + offByMs;
    }
  } as DateConstructor;
}

async function wrap(settings: DeviceSettings): Promise<void> {
  const { log, host, minMs, maxMs, deadlyEvery, deadlyWhile, failingEvery, slow, heldWhile } = settings;
  const { InferenceSession } = await import("onnxruntime-node");
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  const { prototype } = InferenceSession as unknown as { prototype: { run(...given: unknown[]): Promise<unknown> } };
  const { run } = prototype;
  prototype.run = async function (this: unknown, ...given) {
    const numbers = numbersOf(given[0] as Record<string, Tensor>);
    if (numbers.length === 0) return await run.apply(this, given);
    // before the run: what a killed host had begun has run as well
    appendFileSync(log, `${JSON.stringify({ host, numbers, startedMs: trueNow() })}\n`);
    const divides = (every: number | undefined): boolean => every !== undefined && numbers.some((number) => number % every === 0);
    if (divides(deadlyEvery) && (deadlyWhile === undefined || existsSync(deadlyWhile))) process.kill(process.pid, "SIGKILL");
    // a blocked thread, as a run blocks it, without the machine time of one
    const usualMs = minMs + ((numbers[0]! * 7919) % (maxMs - minMs + 1));
    Atomics.wait(sleeper, 0, 0, slow && divides(slow.every) ? slow.ms : usualMs);
    while (heldWhile !== undefined && existsSync(heldWhile)) Atomics.wait(sleeper, 0, 0, 10);
    if (divides(failingEvery)) throw new Error("the device refuses a row of this batch");
    return await run.apply(this, given);
  };
}

function numbersOf(feeds: Record<string, Tensor>): number[] {
  const values = feeds.x?.data;
  const numbers: number[] = [];
  if (!(values instanceof Float32Array)) return numbers;
  for (let at = 0; at + 3 < values.length; at += 4) if (values[at + 1] === rowMark) numbers.push(values[at]!);
  return numbers;
}
