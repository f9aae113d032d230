/** Resources, prompts, completion and subscriptions in one piece, for whoever makes servers of the protocol: opened once, then added to each. */

import type { McpServerFactory, Server } from "@modelcontextprotocol/server";
import type { Caller } from "../../application/caller.ts";
import type { DoorContext } from "../door-context.ts";
import { ChangeStreams, type StreamLimits } from "./change-streams.ts";
import { Changes } from "./changes.ts";
import { Cursors } from "./cursors.ts";
import { addResourceHandlers, capabilities } from "./resources.ts";

export interface ResourcePart {
  changes: Changes;
  /** To a server that nobody is connected to yet: of one request of the stateless revision, or of one session of the earlier one. */
  add(server: Server, asked: { caller: Caller; era: "modern" | "legacy" }): void;
  /** Serves `subscriptions/listen`, which belongs to no single server. */
  streams(factory: McpServerFactory, limits?: StreamLimits): ChangeStreams;
  /** Ends all subscriptions. */
  close(): void;
}

export function openResources(context: DoorContext): ResourcePart {
  const changes = new Changes({ context });
  const cursors = new Cursors(context.secret);
  return {
    changes,
    add(server, { caller, era }) {
      server.registerCapabilities(capabilities);
      const what = { context, caller, cursors, changes };
      if (era === "modern") addResourceHandlers(server, what);
      else addResourceHandlers(server, { ...what, session: { signal: closing(server), end: () => void server.close() } });
    },
    streams: (factory, limits) => new ChangeStreams({ changes, factory, log: context.log, ...limits }),
    close: () => changes.close(),
  };
}

/** Aborts when the server is closed. */
function closing(server: Server): AbortSignal {
  const over = new AbortController();
  const before = server.onclose;
  server.onclose = () => {
    over.abort();
    before?.();
  };
  return over.signal;
}
