/**
 * Who is to hear of which changes. Owns the subscriptions of both eras of the protocol: each has a caller, and hears of lists, and of resources
 * that this caller was found to be allowed to read, and of nothing else. Whether lists have changed is looked at here, once a second while
 * somebody listens: every coordinator looks for itself. Loads nothing of the protocol's packages.
 */

import { SwitchyardError } from "@switchyard/protocol";
import { type Caller, localCaller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { Lookout } from "./lookout.ts";
import { servedModels, servedVersion } from "./model-tools.ts";
import { ourSpelling } from "./resource-uris.ts";
import { TenantShares } from "./tenant-shares.ts";
import { WatchedResources } from "./watched-resources.ts";

/** In the words of the protocol. */
export type ChangeEvent =
  | { kind: "tools_list_changed" | "prompts_list_changed" | "resources_list_changed" }
  | { kind: "resource_updated"; uri: string };

type ListKind = Exclude<ChangeEvent["kind"], "resource_updated">;

/** A difference of what is listed is told when a second look sees it too: hosts come and go, and models while their files are copied. */
const lookEveryMs = 1_000;
/** Streams and sessions together, of all tenants. */
const mostSubscriptions = 2_048;
const mostPerCaller = 200;
/** Of one subscription. */
export const mostFollowed = 100;

/** One who listens. */
export interface Subscriber {
  caller: Caller;
  /** Whether its key is still good: asked before anything is told, and every second. */
  isAllowed(): boolean;
  /** Which lists it wants to hear of. */
  lists: ReadonlySet<ListKind>;
  /** Never throws. */
  tell(event: ChangeEvent): void;
  /** Its key is no longer good, or this coordinator ends: nothing will follow. */
  end(): void;
}

export const allLists: ReadonlySet<ListKind> = new Set(["tools_list_changed", "prompts_list_changed", "resources_list_changed"]);

export interface ChangesParts {
  context: Pick<DoorContext, "jobs" | "models" | "hosts" | "overview" | "tools" | "clock" | "log">;
  /** Text that differs when a list does, in place of what is taken here. */
  listed?: Partial<Record<ListKind, () => string>>;
}

export class Changes {
  readonly #listed: Record<ListKind, () => string>;
  readonly #watched: WatchedResources;
  readonly #lookout: Lookout;
  readonly #subscriptions = new Set<Subscription>();
  readonly #shares = new TenantShares(mostSubscriptions);
  /** What subscribers were told last of each list, and whether the last look differed. */
  readonly #told = new Map<ListKind, { text: string; differs: boolean }>();
  #isClosed = false;

  constructor({ context, listed }: ChangesParts) {
    this.#listed = {
      tools_list_changed: () => toolsText(context),
      prompts_list_changed: () => "",
      resources_list_changed: () => resourcesText(context),
      ...listed,
    };
    this.#watched = new WatchedResources(context, (uri) => this.#tell({ kind: "resource_updated", uri }));
    this.#lookout = new Lookout({ clock: context.clock, log: context.log, everyMs: lookEveryMs, look: async () => this.#look() });
  }

  /** Throws `rate_limited`. */
  open(subscriber: Subscriber): Subscription {
    if (this.#isClosed) throw new SwitchyardError("draining", "This coordinator is shutting down; ask another one");
    const { keyId, tenant } = subscriber.caller;
    const own = [...this.#subscriptions].filter(({ caller }) => caller.keyId === keyId && caller.tenant === tenant);
    if (own.length >= mostPerCaller) throw new SwitchyardError("rate_limited", `Subscription limit reached: ${mostPerCaller} for one key`);
    const giveBack = this.#shares.take(tenant);
    if (giveBack === undefined) {
      throw new SwitchyardError("rate_limited", `Subscription limit reached: this tenant has its share of the ${mostSubscriptions} in all`);
    }
    const subscription = new Subscription(subscriber, this.#watched, () => {
      giveBack();
      this.#left(subscription);
    });
    this.#subscriptions.add(subscription);
    this.#begin();
    return subscription;
  }

  /** Ends all subscriptions. */
  close(): void {
    this.#isClosed = true;
    for (const subscription of [...this.#subscriptions]) subscription.end();
    this.#watched.close();
    this.#rest();
  }

  #begin(): void {
    if (this.#told.size > 0) return;
    for (const kind of allLists) this.#told.set(kind, { text: this.#listed[kind](), differs: false });
    this.#lookout.start();
  }

  #left(subscription: Subscription): void {
    this.#subscriptions.delete(subscription);
    if (this.#subscriptions.size === 0) this.#rest();
  }

  /** Nobody listens. */
  #rest(): void {
    this.#lookout.stop();
    this.#told.clear();
  }

  #tell(event: ChangeEvent): void {
    for (const subscription of [...this.#subscriptions]) subscription.tell(event);
  }

  #look(): void {
    for (const subscription of [...this.#subscriptions]) subscription.check();
    for (const [kind, told] of this.#told) {
      const text = this.#listed[kind]();
      if (text === told.text) told.differs = false;
      else if (!told.differs) told.differs = true;
      else {
        this.#told.set(kind, { text, differs: false });
        this.#tell({ kind });
      }
    }
  }
}

/** What one subscriber hears. */
export class Subscription {
  readonly #subscriber: Subscriber;
  readonly #watched: WatchedResources;
  readonly #onEnd: () => void;
  /** By address as the subscriber spells it, what ends its watch; undefined until it is known that the caller may read it. */
  readonly #followed = new Map<string, (() => void) | undefined>();
  /** By address as we spell it, those by which the subscriber knows what it follows. */
  readonly #spellings = new Map<string, Set<string>>();
  #isOver = false;

  /** Made by Changes only. */
  constructor(subscriber: Subscriber, watched: WatchedResources, onEnd: () => void) {
    this.#subscriber = subscriber;
    this.#watched = watched;
    this.#onEnd = onEnd;
  }

  get caller(): Caller {
    return this.#subscriber.caller;
  }

  /** Throws what reading the resource would, and `rate_limited`. Repeated, it does nothing. */
  async follow(uri: string): Promise<void> {
    if (this.#isOver || this.#followed.has(uri)) return;
    if (this.#followed.size >= mostFollowed) {
      throw new SwitchyardError("rate_limited", `one subscription follows at most ${mostFollowed} resources`);
    }
    this.#followed.set(uri, undefined); // it counts from now on
    try {
      const ours = ourSpelling(uri);
      const stop = await this.#watched.follow(ours, this.#subscriber.caller);
      const isAwaited = this.#followed.has(uri) && this.#followed.get(uri) === undefined;
      if (isAwaited) this.#followed.set(uri, this.#spelt(uri, { ours, stop }));
      else stop(); // it was left meanwhile, and perhaps followed again
    } catch (error) {
      this.#followed.delete(uri);
      throw error;
    }
  }

  #spelt(uri: string, { ours, stop }: { ours: string; stop: () => void }): () => void {
    const spellings = this.#spellings.get(ours) ?? new Set();
    this.#spellings.set(ours, spellings.add(uri));
    return () => {
      spellings.delete(uri);
      if (spellings.size === 0) this.#spellings.delete(ours);
      stop();
    };
  }

  unfollow(uri: string): void {
    const stop = this.#followed.get(uri);
    this.#followed.delete(uri);
    stop?.();
  }

  tell(event: ChangeEvent): void {
    for (const wanted of this.#wanted(event)) if (this.check()) this.#subscriber.tell(wanted);
  }

  #wanted(event: ChangeEvent): ChangeEvent[] {
    if (event.kind !== "resource_updated") return this.#subscriber.lists.has(event.kind) ? [event] : [];
    return [...(this.#spellings.get(event.uri) ?? [])].map((uri) => ({ kind: event.kind, uri }));
  }

  /** Whether it goes on. */
  check(): boolean {
    if (!this.#isOver && !this.#subscriber.isAllowed()) this.end();
    return !this.#isOver;
  }

  /** By us: the subscriber is told. */
  end(): void {
    if (this.#isOver) return;
    this.close();
    this.#subscriber.end();
  }

  /** By the subscriber. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const uri of [...this.#followed.keys()]) this.unfollow(uri);
    this.#onEnd();
  }
}

/** Tools are made of the version that serves each model: whether a host holds it right now changes none. And of other servers' that are offered on. */
function toolsText({ models, tools }: Pick<DoorContext, "models" | "tools">): string {
  const served = servedModels(models.list(), localCaller).flatMap((model) => servedVersion(models, model) ?? []);
  const own = served.map(({ version }) => `${version.model}@${version.version} ${version.digest}`);
  const exposing = (tools?.servers.all() ?? []).filter(({ settings }) => settings.expose.length > 0);
  const offered = exposing.flatMap(({ settings, tools: known }) => [...known.values()].map(({ pin }) => `${settings.name} ${pin}`));
  return [...own, ...offered].sort().join("\n");
}

/** Jobs come and go all the time, and are left out. */
function resourcesText({ hosts, models }: Pick<DoorContext, "hosts" | "models">): string {
  const names = new Set([...models.published()].map(({ model }) => `model ${model}`));
  for (const { id } of hosts.list()) names.add(`host ${id}`);
  return [...names].sort().join("\n");
}
