/**
 * What becomes of a ticket, from the moment BullMQ delivers it: bind it, make sure that its model is here, let the runner serve it, give it
 * up. A ticket that this host cannot serve now is set aside without being offered again; the coordinators' sweep offers the next one, at
 * its own pace, so that a ticket that nobody can serve does not spin.
 */

import { isChoosy, type ModelVersion } from "@switchyard/protocol";
import { keys, tagOf } from "@switchyard/protocol/redis";
import type { Clock } from "./clock.ts";
import type { HeldModels } from "./models/held-models.ts";
import type { KnownModels } from "./models/known-models.ts";
import { anotherCanLoad, othersThatHold } from "./presence/other-hosts.ts";
import type { RedisClient } from "./redis-client.ts";
import { runScript } from "./redis-connection.ts";
import type { RunnerHandle } from "./runner/runner-handle.ts";

/** A cold ticket that is served for longer gets its model a queue of its own, and leaves its place to other cold tickets. */
const coldPlaceMs = 1_000;

interface Parts {
  redis: RedisClient;
  clock: Clock;
  incarnation: string;
  known: KnownModels;
  held: HeldModels;
  runner: RunnerHandle;
  /** Aborts when the host takes no more work. */
  stop: AbortSignal;
  /** Whether it takes none for now. */
  rests: () => boolean;
  /** Whether the device is at something long of another queue, so that this one's jobs had better be offered to another host, too. */
  isOccupied: (tag: string) => boolean;
  /** Whether this host has all that the queue's jobs require. */
  fits: (version: ModelVersion) => boolean;
  /** To any host that may be asked. */
  offer: (ticketIds: readonly string[]) => Promise<void>;
  subscribe: (tag: string) => Promise<void>;
  /** Tells the cluster at once what this host holds. */
  tellHeld: () => Promise<void>;
  onBarred: () => void;
  log: (event: string, fields?: Record<string, unknown>) => void;
}

export class TicketDesk {
  readonly #parts: Parts;
  readonly #serving = new Map<string, Promise<void>>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Never throws. Resolves when the ticket is over, or, for a cold one, when it needs no place among the cold any more. */
  async onTicket(tag: string, ticketId: string, cold: boolean): Promise<void> {
    const earlier = this.#serving.get(ticketId); // its lease ran out, and it was delivered again
    if (earlier !== undefined) return earlier;
    const served = this.#serve(tag, ticketId)
      .catch((error: Error) => this.#parts.log("ticket_failed", { tag, ticketId, message: error.message })) // the sweeper replaces it
      .finally(() => this.#serving.delete(ticketId));
    this.#serving.set(ticketId, served);
    await (cold ? this.#whileCold(tag, served) : served);
  }

  async #whileCold(tag: string, served: Promise<void>): Promise<void> {
    const { clock, held, log, subscribe } = this.#parts;
    const over = new AbortController();
    void served.finally(() => over.abort());
    do await clock.sleep(coldPlaceMs, over.signal);
    while (!over.signal.aborted && held.isLoading(tag));
    if (over.signal.aborted || !held.holds(tag)) return;
    await subscribe(tag).catch((error: Error) => log("ticket_trouble", { message: error.message }));
  }

  async #serve(tag: string, ticketId: string): Promise<void> {
    const { incarnation, onBarred, redis, runner, stop } = this.#parts;
    const version = await this.#version(tag);
    const how = this.#parts.isOccupied(tag) ? ["occupied"] : [];
    const taken = await runScript(redis, "take", keys.base(tag), [incarnation, ticketId, ...how]);
    if (taken === "barred") return onBarred();
    if (taken !== "held") return;
    // one device, one ticket of a queue: another host shall have this one, or nobody
    if (this.#servesAlready(tag, ticketId)) return this.#setAside(tag, ticketId);
    if (!version || !this.#parts.fits(version)) return this.#setAside(tag, ticketId);
    const place = stop.aborted ? "leave" : await this.#place(version);
    if (stop.aborted || this.#parts.rests()) return this.release(tag, ticketId);
    if (place === "leave") return this.#setAside(tag, ticketId);
    // a model that is here now may be gone, and without room to come back, when the runner looks
    const end = await runner.serve(ticketId, version, place === "serve" ? "leave" : "tell");
    if (end !== "retired") await this.release(tag, ticketId, end === "release" ? "unbegun" : "");
  }

  /** One that came before: of two that come together the first is served. */
  #servesAlready(tag: string, ticketId: string): boolean {
    for (const served of this.#serving.keys()) {
      if (served === ticketId) return false;
      if (tagOf(served) === tag) return true;
    }
    return false;
  }

  async #version(tag: string): Promise<ModelVersion | undefined> {
    const { known } = this.#parts;
    if (!known.byTag(tag)) await known.refresh();
    return known.byTag(tag);
  }

  /**
   * The model is loaded before the runner claims anything, because a claim that cannot run costs its jobs an attempt. Where another host may
   * load it, or there may be room as soon as a run ends, the jobs are left; where none can, they are claimed all the same and told why.
   */
  async #place(version: ModelVersion): Promise<"serve" | "leave" | "tell"> {
    const { held, incarnation, redis, stop } = this.#parts;
    const { tag, config } = version;
    const most = config.max_replicas;
    // nobody else may load it: tickets must find their way here at once
    if (held.holds(tag)) {
      if (most !== undefined) await this.#parts.subscribe(tag);
      return "serve";
    }
    if (most !== undefined && (await othersThatHold(redis, incarnation, tag)) >= most) return "leave";
    if (!held.isBackingOff(tag)) await held.load(version, stop);
    // before anything is claimed, so that whoever gets the queue's next ticket knows
    if (most !== undefined && held.holds(tag)) {
      await this.#parts.subscribe(tag);
      await this.#parts.tellHeld();
    }
    if (held.holds(tag) || !held.isBackingOff(tag)) return "serve";
    return held.waitsForRoom(tag) || (await anotherCanLoad(redis, incarnation, version)) ? "leave" : "tell";
  }

  /** Gives a ticket up; where jobs wait, the next one is offered to other hosts. `unbegun`: the runner is done with it, so that what was handed over under it goes back; else such a ticket stays. Who may take it is the coordinators' to say, if it matters. */
  async release(tag: string, ticketId: string, how: "unbegun" | "" = ""): Promise<void> {
    const { incarnation, redis } = this.#parts;
    const issued = (await runScript(redis, "release", keys.base(tag), [tag, incarnation, ticketId, 1, ...(how ? [how] : [])])) as string[];
    const version = this.#parts.known.byTag(tag);
    if (issued.length > 0 && !(version && isChoosy(version))) await this.#parts.offer(issued);
  }

  /** Gives a ticket up and leaves the next one to the sweep. */
  async #setAside(tag: string, ticketId: string): Promise<void> {
    await runScript(this.#parts.redis, "release", keys.base(tag), [tag, this.#parts.incarnation, ticketId, 0, "aside"]);
  }

  /** Tickets at hand, those whose model is still being loaded too. */
  held(): string[] {
    return [...this.#serving.keys()];
  }

  /** Resolves when every ticket at hand is over. */
  async settled(): Promise<void> {
    await Promise.all(this.#serving.values());
  }
}
