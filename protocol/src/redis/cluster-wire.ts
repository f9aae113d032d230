/**
 * One write's commands spread over the masters of a Redis Cluster, by the slots of their keys: what goes to one master travels together
 * and in order, as on a single server. Owns the map of slots and one link to each master. Knows no library, no socket and no clock: it is
 * given what opens a link. Fails as fast as its links do, and sends again only what they do; whoever calls tries again.
 */

import { nodeText, type RedisNode } from "./address.ts";
import { type RawReply, type RedisCommand, replyText } from "./resp.ts";
import { slotCount, slotOf } from "./slot.ts";
import { sendOnWire, type WireClient } from "./wire.ts";

export interface ClusterLink {
  readonly client: WireClient;
  /** As `sendOnWire`; may wait for a connection that was ended, and send once more what was under way there. Rejects when nothing was answered. */
  send(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]>;
  /** Resolves when it can be used; afterwards it reconnects by itself until it is closed. */
  connect(): Promise<void>;
  close(): void;
}

interface Opened<Link> {
  link: Link;
  opened: Promise<void>;
}

/** A command, or the share of an MGET that one slot has. */
interface Part {
  command: RedisCommand;
  slot: number | undefined;
  settle: (reply: RawReply | Error) => void;
}

/** Commands of ours that name no key, or name it behind others; with all others it is the first argument. */
const keyless = new Set(["ping", "time", "info", "wait", "waitaof", "script", "cluster", "command", "config"]);
/** MOVED is followed this often; a cluster that is being rearranged is asked again by the caller. */
const mostMoves = 3;

function slotIn(command: RedisCommand): number | undefined {
  const name = command[0].toLowerCase();
  if (keyless.has(name)) return undefined;
  const key = name === "evalsha" || name === "eval" ? command[3] : command[1];
  return slotOf(String(key));
}

export class ClusterWire<Link extends ClusterLink> {
  readonly #seeds: readonly RedisNode[];
  readonly #open: (node: RedisNode) => Link;
  readonly #links = new Map<string, Opened<Link>>();
  /** By slot, the master's name. */
  #owners: (string | undefined)[] = new Array(slotCount);
  #masters: readonly string[] = [];
  #refreshing: Promise<void> | undefined;
  #closed = false;

  constructor(parts: { seeds: readonly RedisNode[]; open: (node: RedisNode) => Link }) {
    this.#seeds = parts.seeds;
    this.#open = parts.open;
  }

  /** Resolves when all masters can be used; throws why not. */
  async connect(): Promise<void> {
    await this.#askSeeds();
    const missing = slotCount - this.#owners.filter((owner) => owner !== undefined).length;
    if (missing > 0) throw new Error(`the cluster serves ${slotCount - missing} of ${slotCount} slots`);
    await Promise.all([...this.#links.values()].map(({ opened }) => opened));
    const away = this.masters().filter((name) => this.#links.get(name)?.link.client.status !== "ready");
    if (away.length > 0) throw new Error(`masters of the cluster do not answer: ${away.join(", ")}`);
  }

  /** To those masters that could be reached. */
  links(): Link[] {
    return [...this.#links.values()].map(({ link }) => link);
  }

  /** Names of those that serve slots. */
  masters(): readonly string[] {
    return this.#masters;
  }

  /** The name of the master that serves a key. */
  ownerOf(key: string): string | undefined {
    return this.#owners[slotOf(key)];
  }

  /** Looks at the map of slots again, once at a time. Never throws. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#look().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #look(): Promise<void> {
    for (const [name, { link }] of this.#links) {
      if (link.client.status === "ready" && (await this.#askOne(link, name))) return;
    }
    await this.#askSeeds().catch(() => {}); // the next look may find one
  }

  /** When no master is known that answers. */
  async #askSeeds(): Promise<void> {
    let why: Error = new Error("no node was named");
    for (const seed of this.#seeds) {
      if (this.#closed) return;
      const link = this.#open(seed);
      try {
        await link.connect();
        if (await this.#askOne(link, nodeText(seed))) return;
        why = new Error(`${nodeText(seed)} is no node of a cluster`);
      } catch (error) {
        why = error as Error;
      } finally {
        link.close();
      }
    }
    throw why;
  }

  async #askOne(link: Link, name: string): Promise<boolean> {
    try {
      const [reply] = await sendOnWire(link.client, [["cluster", "slots"]]);
      if (this.#closed || !Array.isArray(reply) || reply.length === 0) return false;
      this.#takeOver(replyText(reply) as SlotRange[], name.replace(/:\d+$/, "").replace(/^\[|\]$/g, ""));
      return true;
    } catch {
      return false;
    }
  }

  #takeOver(ranges: readonly SlotRange[], askedHost: string): void {
    const owners: (string | undefined)[] = new Array(slotCount);
    const masters = new Map<string, RedisNode>();
    for (const [from, to, [host, port]] of ranges) {
      const node = { host: host ? host : askedHost, port }; // a node that does not know its own address says nothing
      const name = nodeText(node);
      masters.set(name, node);
      owners.fill(name, from, to + 1);
    }
    this.#owners = owners;
    this.#masters = [...masters.keys()];
    for (const node of masters.values()) this.#linkTo(node);
    for (const [name, { link }] of this.#links) {
      if (masters.has(name)) continue;
      this.#links.delete(name);
      link.close();
    }
  }

  #linkTo(node: RedisNode): Opened<Link> {
    const name = nodeText(node);
    let entry = this.#links.get(name);
    if (!entry) {
      const link = this.#open(node);
      const opened = link.connect().catch(() => {
        if (this.#links.get(name)?.link === link) this.#links.delete(name); // the next look opens another
      });
      entry = { link, opened };
      this.#links.set(name, entry);
    }
    return entry;
  }

  /** As `sendOnWire`. A command without a key goes where the one before it went. An MGET may name keys of several slots; nothing else may. */
  async send(commands: readonly RedisCommand[]): Promise<(RawReply | Error)[]> {
    const replies: (RawReply | Error)[] = new Array(commands.length);
    let open: Part[] = [];
    let slot: number | undefined;
    for (const [at, command] of commands.entries()) {
      if (command[0] === "mget") {
        open.push(
          ...spreadOf(command, (reply) => {
            replies[at] = reply;
          }),
        );
        continue;
      }
      slot = slotIn(command) ?? slot;
      open.push({
        command,
        slot,
        settle: (reply) => {
          replies[at] = reply;
        },
      });
    }
    for (let move = 0; open.length > 0; move++) open = await this.#round(open, move);
    return replies;
  }

  #linkOf({ slot }: Part): Opened<Link> | undefined {
    const [any] = this.#links.values();
    return slot === undefined ? any : this.#links.get(this.#owners[slot] ?? "");
  }

  /** Answers what must be sent again, to another master. Throws when no master that was asked can be reached. */
  async #round(parts: readonly Part[], move: number): Promise<Part[]> {
    const again: Part[] = [];
    const unsent: Error[] = [];
    let trouble = false;
    const settle = (part: Part, reply: RawReply | Error): void => {
      if (reply instanceof Error) {
        const [word, slot, place] = reply.message.split(" ");
        if (word === "MOVED" && move < mostMoves) {
          this.#moved(Number(slot), place as string);
          again.push(part);
          return;
        }
        trouble ||= reply.name !== "ReplyError" || /^(MOVED|ASK|CLUSTERDOWN|MASTERDOWN|READONLY|LOADING)$/.test(word as string);
      }
      part.settle(reply);
    };
    await Promise.all(
      [...Map.groupBy(parts, (part) => this.#linkOf(part))].map(async ([entry, group]) => {
        if (move > 0) await entry?.opened; // a master that was heard of a moment ago
        const commands = group.map(({ command }) => command);
        const sent = entry ? entry.link.send(commands) : Promise.reject(new Error("the master of this key is not known"));
        const answers = await sent.catch((error: Error) => {
          unsent.push(...group.map(() => error));
          return group.map(() => error);
        });
        for (const [at, part] of group.entries()) settle(part, answers[at] as RawReply | Error);
      }),
    );
    if (trouble || again.length > 0) void this.refresh();
    if (move === 0 && unsent.length === parts.length && unsent[0]) throw unsent[0];
    return again;
  }

  /** `place` is host:port, the host in no brackets; empty where it is the same host. */
  #moved(slot: number, place: string): void {
    const at = place.lastIndexOf(":");
    const host = place.slice(0, at) || (this.#owners[slot] ?? "").replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
    const node = { host, port: Number(place.slice(at + 1)) };
    this.#linkTo(node);
    this.#owners[slot] = nodeText(node);
  }

  close(): void {
    this.#closed = true;
    for (const { link } of this.#links.values()) link.close();
  }
}

type SlotRange = [from: number, to: number, master: [host: string | null, port: number], ...replicas: unknown[]];

/** One MGET for each slot; the last that is answered settles the whole. */
function spreadOf(command: RedisCommand, settle: Part["settle"]): Part[] {
  const wanted = command.slice(1) as string[];
  const bySlot = Map.groupBy(wanted.keys(), (at) => slotOf(wanted[at] as string));
  const values: RawReply[] = new Array(wanted.length);
  let missing = bySlot.size;
  let failure: Error | undefined;
  return [...bySlot].map(([slot, places]) => ({
    command: ["mget", ...places.map((at) => wanted[at] as string)],
    slot,
    settle: (reply) => {
      if (reply instanceof Error) failure ??= reply;
      else
        (reply as RawReply[]).forEach((value, index) => {
          values[places[index] as number] = value;
        });
      missing -= 1;
      if (missing === 0) settle(failure ?? values);
    },
  }));
}
