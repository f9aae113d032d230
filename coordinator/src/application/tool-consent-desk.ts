/** Decides whether a tool may be called now, asks for consent where nobody has decided, and keeps what was decided. Every decision is audited. */

import { SwitchyardError, type ToolDecision } from "@switchyard/protocol";
import type { Log } from "../ports/log.ts";
import type { AuditedAct, ToolAudit } from "../ports/tool-audit.ts";
import type { StoredConsent, ToolConsents } from "../ports/tool-consents.ts";
import type { Caller } from "./caller.ts";
import { canonicalJson, configured, decide, type Verdict } from "./tool-policy.ts";
import type { KnownTool, ToolServer } from "./tool-server.ts";

/** A tool with what would become of a call. */
export interface JudgedTool extends KnownTool {
  verdict: Verdict;
  stored: StoredConsent | undefined;
}

export interface ConsentDeskParts {
  consents: ToolConsents;
  audit: ToolAudit;
  log: Log;
}

/** Somebody else's change between reading and writing is looked at again so often. */
const mostTries = 3;

export class ToolConsentDesk {
  readonly #parts: ConsentDeskParts;

  constructor(parts: ConsentDeskParts) {
    this.#parts = parts;
  }

  async judge(server: ToolServer, tool: KnownTool): Promise<JudgedTool> {
    return judged(server, tool, await this.#parts.consents.get(server.settings.name, tool.definition.name));
  }

  /** In the server's order. */
  async judgeAll(server: ToolServer): Promise<JudgedTool[]> {
    const tools = [...server.tools.values()];
    const names = tools.map(({ definition }) => definition.name);
    const stored = await this.#parts.consents.ofServer(server.settings.name, names);
    return tools.map((tool) => judged(server, tool, stored.get(tool.definition.name)));
  }

  /**
   * Resolves when the tool may be called by this definition. Throws `forbidden`, or `consent_required` after noting that somebody asked; then
   * what `check` throws: a schema that nobody has consented to is not run. The first use of a tool that the configuration
   * allows pins its definition, for all coordinators.
   */
  async admit(server: ToolServer, tool: KnownTool, { caller, check }: { caller: Caller; check: () => void }): Promise<void> {
    for (let tries = 1; ; tries++) {
      const { stored, verdict } = await this.judge(server, tool);
      if (verdict.decision === "deny") throw refusal(server, tool, verdict);
      if (verdict.decision === "allow") check();
      try {
        if (verdict.decision === "ask") return await this.#ask(server, tool, { caller, reason: verdict.reason });
        if (verdict.pinsNow) await this.#pinFirst(server, tool, { caller, judged: stored?.consent });
        return;
      } catch (error) {
        const isRaced = error instanceof SwitchyardError && error.code === "changed_meanwhile";
        if (!isRaced || tries >= mostTries) throw error;
      }
    }
  }

  /** `pin`: the definition that whoever decides has seen; another one is not decided on. Throws `changed_meanwhile`. */
  async decide(
    server: ToolServer,
    tool: KnownTool,
    { caller, decision, pin }: { decision: "allow" | "deny"; pin: string | undefined; caller: Caller },
  ): Promise<JudgedTool> {
    const { name } = tool.definition;
    if (pin !== undefined && pin !== tool.pin) {
      throw new SwitchyardError(
        "changed_meanwhile",
        `The definition of the tool '${name}' is another than the one decided on: look at it again`,
        {
          extra: { pin: tool.pin },
        },
      );
    }
    const stored = await this.#put(server, tool, { decision, by: idOf(caller) });
    await this.note({ ...this.#about(server, tool, caller), event: "consent", via: "http", outcome: decision });
    return judged(server, tool, stored);
  }

  async forget(server: ToolServer, tool: KnownTool, caller: Caller): Promise<void> {
    const { name } = server.settings;
    await this.#parts.consents.change({ server: name, tool: tool.definition.name }, () => undefined);
    await this.note({ ...this.#about(server, tool, caller), event: "consent", via: "http", outcome: "forget" });
  }

  /** To the trail and to the log. What has happened has happened: a trail that cannot be written is said in the log. */
  async note(act: AuditedAct): Promise<void> {
    const { arguments_sha256, ...fields } = { ...act, arguments_sha256: act.argumentsSha256 };
    const { argumentsSha256: _, event, ...told } = fields;
    this.#parts.log.info(event === "call" ? "mcp_tool_called" : "mcp_tool_consent", { ...told, arguments_sha256 });
    try {
      await this.#parts.audit.append(act);
    } catch (error) {
      this.#parts.log.error("mcp_audit_lost", { server: act.server, tool: act.tool, error: (error as Error).message });
    }
  }

  async #ask(server: ToolServer, tool: KnownTool, { caller, reason }: { caller: Caller; reason: string }): Promise<never> {
    const { name } = server.settings;
    const { pin } = tool;
    try {
      await this.#parts.consents.ask({ server: name, tool: tool.definition.name }, { by: idOf(caller), pin });
    } catch (error) {
      // that it is needed holds, noted or not
      this.#parts.log.warn("mcp_ask_lost", { server: name, tool: tool.definition.name, error: (error as Error).message });
    }
    const where = `/v1/mcp/servers/${name}/tools/${encodeURIComponent(tool.definition.name)}/consent`;
    throw new SwitchyardError(
      "consent_required",
      `The tool '${tool.definition.name}' of the MCP server ${name} needs somebody's consent: ${reason}. Whoever has the scope operate gives it with PUT ${where}`,
      { extra: { server: name, tool: tool.definition.name, pin, consent: where } },
    );
  }

  #put(
    server: ToolServer,
    tool: KnownTool,
    { by, decision, mayFollow }: { decision: "allow" | "deny"; by: string; mayFollow?: (before: StoredConsent["consent"]) => boolean },
  ): Promise<StoredConsent | undefined> {
    const { origin, settings } = server;
    return this.#parts.consents.change({ server: settings.name, tool: tool.definition.name }, (before, nowMs) => {
      if (mayFollow && !mayFollow(before?.consent)) throw raced();
      return { consent: { decision, pin: tool.pin, origin, by, atMs: nowMs } };
    });
  }

  /** A first use overrules nobody who has decided or pinned since. */
  async #pinFirst(
    server: ToolServer,
    tool: KnownTool,
    { caller, judged }: { caller: Caller; judged: StoredConsent["consent"] },
  ): Promise<void> {
    const mayFollow = (now: StoredConsent["consent"]): boolean => canonicalJson(now) === canonicalJson(judged);
    await this.#put(server, tool, { decision: "allow", by: configured, mayFollow });
    await this.note({ ...this.#about(server, tool, caller), by: configured, event: "consent", via: "first use", outcome: "allow" });
  }

  #about(server: ToolServer, tool: KnownTool, caller: Caller) {
    return { server: server.settings.name, tool: tool.definition.name, tenant: caller.tenant, by: idOf(caller), pin: tool.pin };
  }
}

/** Who decided or called, in consents and in the trail. */
export function idOf(caller: Caller): string {
  return caller.keyId ?? "local";
}

function judged(server: ToolServer, tool: KnownTool, stored: StoredConsent | undefined): JudgedTool {
  const { origin, settings } = server;
  return { ...tool, stored, verdict: decide({ settings, tool: tool.definition, pin: tool.pin, origin, stored }) };
}

function refusal(server: ToolServer, tool: KnownTool, { reason }: Verdict): SwitchyardError {
  const { name } = server.settings;
  const refused: ToolDecision = "deny";
  return new SwitchyardError("forbidden", `The tool '${tool.definition.name}' of the MCP server ${name} may not be called: ${reason}`, {
    extra: { server: name, tool: tool.definition.name, decision: refused },
  });
}

function raced(): SwitchyardError {
  return new SwitchyardError("changed_meanwhile", "Somebody decided about the tool meanwhile");
}
