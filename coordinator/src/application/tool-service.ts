/** What doors and steps may ask of the tools of other servers. */

import type { ToolAudit } from "../ports/tool-audit.ts";
import type { ToolCalls } from "./tool-calls.ts";
import type { ToolConsentDesk } from "./tool-consent-desk.ts";
import type { ToolServers } from "./tool-servers.ts";

export interface ToolService {
  servers: ToolServers;
  desk: ToolConsentDesk;
  calls: Pick<ToolCalls, "callTool">;
  audit: ToolAudit;
}
