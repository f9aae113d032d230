/**
 * Keeps a coordinator and its Redis to a core each while both have much to do, on a machine of two. The system leaves a process that wakes up behind the one
 * that runs where it ran last, though the other core is free, and these two wake each other all the time (docs/decisions/0017-two-cores.md).
 * Linux only: Node cannot say where a thread runs, so `taskset` (util-linux) does.
 */

import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import { allowedList } from "../adapters/child-cores.ts";
import type { Clock } from "../clock.ts";

const execFileAsync = promisify(execFile);

/** Shares of a core that both main threads take when they are bound, and below which either frees them: light models make both busy, heavy ones neither. */
const busy = { coordinator: 0.35, redis: 0.2 };
const calm = { coordinator: 0.2, redis: 0.1 };
/** So many looks in a row must say so: a pause between two bursts changes nothing. */
const busyLooks = 2;
const calmLooks = 5;
/** Of the kernel's figures for users, on every Linux. */
const tickMs = 10;
/** What should take milliseconds. */
const tasksetMs = 5_000;
/** Why it will not do next time either: there is no such program, or it may not. */
const finalCodes: readonly unknown[] = ["ENOENT", "EACCES", "EPERM"];

type Role = keyof typeof busy;
const roles = ["coordinator", "redis"] as const;

export type CorePairPids = Readonly<Record<Role, number | undefined>>;

/** What this process can do about the system's processes. */
export interface ProcessorTimes {
  /** CPU that the main thread has taken so far, in milliseconds; undefined when there is no such process. */
  mainThreadMs(pid: number): number | undefined;
  /** Ids of its threads; none when there is no such process. */
  threads(pid: number): readonly string[];
  /** Keeps its main thread to these cores, and its other ones to those. Throws an Error that says why not. */
  place(pid: number, cores: { main: readonly number[]; others: readonly number[] }): Promise<void>;
}

export interface CorePairEvents {
  /** For the first time. */
  bound?(cores: Readonly<Record<Role, number>>): void;
  /** It cannot be done, and is not tried any more. */
  failed?(why: string): void;
}

/** Cores by number, as Linux lists them: "0-2,5". */
export function coresIn(list: string): number[] {
  return [...list.matchAll(/(\d+)(?:-(\d+))?/g)].flatMap(([, first, last = first]) =>
    Array.from({ length: Number(last) - Number(first) + 1 }, (_, at) => Number(first) + at),
  );
}

/** Those that this process may use and that are there; none where the system does not say. */
export function allowedCores(): number[] {
  try {
    const online = new Set(coresIn(readFileSync("/sys/devices/system/cpu/online", "utf8"))); // one that is allowed may be yet to be plugged in
    return coresIn(allowedList() ?? "").filter((core) => online.has(core));
  } catch {
    return [];
  }
}

export const systemTimes: ProcessorTimes = {
  mainThreadMs(pid) {
    try {
      const text = readFileSync(`/proc/${pid}/task/${pid}/stat`, "utf8");
      const [user, system] = text
        .slice(text.lastIndexOf(")") + 2)
        .split(" ")
        .slice(11, 13)
        .map(Number);
      return (user! + system!) * tickMs;
    } catch {
      return undefined;
    }
  },
  threads(pid) {
    try {
      return readdirSync(`/proc/${pid}/task`);
    } catch {
      return [];
    }
  },
  async place(pid, { main, others }) {
    const taskset = (flags: readonly string[], cores: readonly number[]): Promise<unknown> =>
      execFileAsync("taskset", [...flags, "-p", "-c", cores.join(","), String(pid)], { timeout: tasksetMs });
    await taskset(["-a"], others); // first: what begins meanwhile begins where its main thread is
    if (String(main) !== String(others)) await taskset([], main);
  },
};

export class CorePair {
  readonly #cores: readonly [number, number];
  readonly #pids: () => CorePairPids;
  readonly #clock: Clock;
  readonly #times: ProcessorTimes;
  readonly #events: CorePairEvents;
  readonly #isAlways: boolean;
  #seen: { atMs: number; pids: CorePairPids; usedMs: Record<Role, number> } | undefined;
  /** Of these processes. */
  #bound: CorePairPids | undefined;
  /** Of both, when they were placed. */
  #threads: ReadonlySet<string> = new Set();
  #looks = 0;
  #isLooking = false;
  #hasSaid = false;
  #hasGivenUp = false;

  /** For the processes that `pids` tells at each look. */
  constructor(parts: {
    cores: readonly [number, number];
    pids: () => CorePairPids;
    /** Whether or not they are busy. Default: only while they are. */
    isAlways?: boolean;
    clock: Clock;
    times?: ProcessorTimes;
    events?: CorePairEvents;
  }) {
    this.#cores = parts.cores;
    this.#pids = parts.pids;
    this.#isAlways = parts.isAlways ?? false;
    this.#clock = parts.clock;
    this.#times = parts.times ?? systemTimes;
    this.#events = parts.events ?? {};
  }

  /** The cores of a machine of exactly two: with more, the system finds a free one. */
  static cores(allowed: readonly number[] = allowedCores()): [number, number] | undefined {
    const [first, second, third] = allowed;
    return first === undefined || second === undefined || third !== undefined ? undefined : [first, second];
  }

  /** To be called once a second; does nothing while a look is under way. Never throws. */
  async look(): Promise<void> {
    if (this.#isLooking || this.#hasGivenUp) return;
    this.#isLooking = true;
    try {
      await this.#look(this.#pids());
    } catch (error) {
      this.#giveUp((error as Error).message);
    } finally {
      this.#isLooking = false;
    }
  }

  async #look(pids: CorePairPids): Promise<void> {
    // whoever is left of a pair runs free until both are busy again
    if (roles.some((role) => this.#bound && this.#bound[role] !== pids[role])) await this.#free();
    const shares = this.#shares(pids);
    if (shares === undefined) return;
    const isBound = this.#bound !== undefined;
    const areBusy = this.#isAlways || roles.every((role) => shares[role] >= busy[role]);
    const isCalm = !this.#isAlways && roles.some((role) => shares[role] < calm[role]);
    const says = isBound ? isCalm : areBusy;
    this.#looks = says ? this.#looks + 1 : 0;
    if (this.#looks >= (isBound ? calmLooks : busyLooks)) await (isBound ? this.#free() : this.#bind());
    else if (isBound) await this.#freeNew();
  }

  /** Both may run on both again. What fails is tried again at the next look. */
  async #free(): Promise<void> {
    const failure = this.#bound && (await this.#place(this.#bound, () => this.#cores));
    if (failure) return;
    this.#bound = undefined;
    this.#looks = 0;
  }

  /** Threads that a bound main thread has started, of a coordinator that was slow to begin, would share its core for good. */
  async #freeNew(): Promise<void> {
    const threads = this.#threadsOf(this.#bound!);
    if (threads.isSubsetOf(this.#threads)) return;
    const failure = await this.#place(this.#bound!, this.#coreOf); // one of them may have ended meanwhile: the next look tries again
    if (!failure) this.#threads = threads;
  }

  readonly #coreOf = (role: Role): number[] => [this.#cores[roles.indexOf(role)]!];

  async #bind(): Promise<void> {
    const [coordinator, redis] = this.#cores;
    this.#bound = this.#seen!.pids;
    this.#threads = this.#threadsOf(this.#bound);
    const failure = await this.#place(this.#bound, this.#coreOf);
    this.#looks = 0;
    if (failure) {
      await this.#free(); // one alone would be in the way of what the system does
      if (finalCodes.includes(failure.code)) this.#giveUp(failure.code === "ENOENT" ? "there is no taskset" : "it is not allowed");
    } else if (!this.#hasSaid) {
      this.#hasSaid = true;
      this.#events.bound?.({ coordinator, redis });
    }
  }

  #threadsOf(pids: CorePairPids): Set<string> {
    return new Set(roles.flatMap((role) => this.#times.threads(pids[role]!)));
  }

  #giveUp(why: string): void {
    this.#hasGivenUp = true;
    this.#events.failed?.(why);
  }

  /** Answers why it could not; a process that has ended is no reason. */
  async #place(pids: CorePairPids, coresOf: (role: Role) => readonly number[]): Promise<{ code: unknown } | undefined> {
    const tries = roles.map(async (role) => {
      const pid = pids[role]!;
      try {
        await this.#times.place(pid, { main: coresOf(role), others: this.#cores });
        return undefined;
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        if (this.#times.mainThreadMs(pid) === undefined) return undefined;
        return { code: /operation not permitted/i.test(message) ? "EPERM" : code };
      }
    });
    return (await Promise.all(tries)).find((failure) => failure !== undefined);
  }

  /** What each has taken of a core since the last look; undefined where one of them is new, or away. */
  #shares(pids: CorePairPids): Record<Role, number> | undefined {
    const before = this.#seen;
    const atMs = this.#clock.monotonicMs();
    const usedMs: Partial<Record<Role, number>> = {};
    for (const role of roles) {
      const pid = pids[role];
      const used = pid === undefined ? undefined : this.#times.mainThreadMs(pid);
      if (used !== undefined) usedMs[role] = used;
    }
    const { coordinator, redis } = usedMs;
    this.#seen = coordinator === undefined || redis === undefined ? undefined : { atMs, pids, usedMs: { coordinator, redis } };
    const isNew = roles.some((role) => before?.pids[role] !== pids[role]);
    if (isNew) this.#looks = 0;
    if (this.#seen === undefined || before === undefined || isNew || atMs <= before.atMs) return undefined;
    const share = (role: Role): number => (this.#seen!.usedMs[role] - before.usedMs[role]) / (atMs - before.atMs);
    return { coordinator: share("coordinator"), redis: share("redis") };
  }
}
