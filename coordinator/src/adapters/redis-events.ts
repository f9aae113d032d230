/**
 * The event bus on Redis pub/sub: one channel for all coordinators. Its connection is opened when somebody listens for the first time. What is
 * published while the store is away reaches this coordinator's listeners only; the others are told that they may have missed something.
 */

import { channels } from "@switchyard/protocol/redis";
import type { Clock } from "../clock.ts";
import type { ChangeEvent, EventBus, EventListener } from "../ports/event-bus.ts";
import type { Log } from "../ports/log.ts";
import type { RedisConnection, RedisSubscription } from "./redis-connection.ts";

interface Parts {
  /** By which events are published. */
  redis: Pick<RedisConnection, "sendAll">;
  /** Makes the connection that hears them. */
  subscription: () => Pick<RedisSubscription, "keep" | "close">;
  /** This process, as no other is called. */
  me: string;
  clock: Pick<Clock, "monotonicMs">;
  log: Pick<Log, "warn">;
}

/** Nobody was told yet that it heard anything: what was published in so short a time before is not missed. */
const opensWithinMs = 1_000;
const kinds: readonly string[] = ["tools_list_changed", "prompts_list_changed", "resources_list_changed", "resource_updated"];

export class RedisEvents implements EventBus {
  readonly #parts: Parts;
  readonly #listeners = new Set<EventListener>();
  #subscription: ReturnType<Parts["subscription"]> | undefined;
  #isClosed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  publish(event: ChangeEvent): void {
    const { me, redis } = this.#parts;
    this.#tell((listener) => listener.event(event));
    redis.sendAll([["publish", channels.changes, JSON.stringify({ from: me, event })]]).catch(() => {});
  }

  listen(listener: EventListener): () => void {
    this.#listeners.add(listener);
    this.#open();
    return () => {
      this.#listeners.delete(listener);
    };
  }

  #open(): void {
    if (this.#subscription || this.#isClosed) return;
    const { clock, log, me } = this.#parts;
    this.#subscription = this.#parts.subscription();
    const openedMs = clock.monotonicMs();
    let hasHeard = false;
    this.#subscription.keep(channels.changes, {
      message: (message) => {
        const event = eventIn(message, me);
        if (event) this.#tell((listener) => listener.event(event));
      },
      hears: () => {
        if (hasHeard || clock.monotonicMs() - openedMs > opensWithinMs) this.#tell((listener) => listener.missed());
        hasHeard = true;
      },
      refused: (why) => log.warn("changes_not_heard", { channel: channels.changes, message: why }),
    });
  }

  #tell(say: (listener: EventListener) => void): void {
    for (const listener of [...this.#listeners]) say(listener);
  }

  close(): void {
    this.#isClosed = true;
    this.#listeners.clear();
    this.#subscription?.close();
  }
}

/** Undefined for what this coordinator has published itself, which its listeners have, and for what another release may say. */
function eventIn(message: Buffer, me: string): ChangeEvent | undefined {
  try {
    const { event, from } = JSON.parse(message.toString("utf8")) as { event?: { kind?: unknown; uri?: unknown }; from?: unknown };
    if (from === me || typeof event?.kind !== "string" || !kinds.includes(event.kind)) return undefined;
    if (event.kind !== "resource_updated") return { kind: event.kind } as ChangeEvent;
    return typeof event.uri === "string" ? { kind: event.kind, uri: event.uri } : undefined;
  } catch {
    return undefined;
  }
}
