/** Tools of other servers that this cluster offers on at its own MCP door: only those whose server's `expose` names them, and that are not denied. */

import type { ToolAnnotations, ToolProgress } from "../ports/tool-servers.ts";
import { shownAnnotations, shownSchema } from "./shown-schemas.ts";
import type { ToolConsentDesk } from "./tool-consent-desk.ts";
import { cleanText, exposedDescription, exposedName } from "./tool-names.ts";
import { isNamed } from "./tool-policy.ts";
import type { ToolServers } from "./tool-servers.ts";

export interface ExposedTool {
  /** `<server>__<tool>`, at most 64 characters of A-Z, a-z, 0-9, underscores and hyphens. */
  name: string;
  server: string;
  tool: string;
  title?: string;
  /** Cleaned, shortened, and saying whose words they are. */
  description: string;
  inputSchema: Record<string, unknown>;
  outputSchema?: Record<string, unknown>;
  annotations?: ToolAnnotations;
  /** SHA-256 of the definition. */
  pin: string;
}

const mostMessageChars = 200;
/** Numbers beyond it cannot rise by little any more, which progress must. */
const mostProgress = 2 ** 32;

/** What a server tells of a call, as it may be told on; undefined where nothing is left of it. */
export function shownProgress(server: string, { message, progress, total }: ToolProgress): ToolProgress | undefined {
  const isUsable = (value: number | undefined): boolean => value !== undefined && Math.abs(value) <= mostProgress;
  if (!isUsable(progress)) return undefined;
  const said = cleanText(message, mostMessageChars);
  return {
    progress,
    ...(isUsable(total) && { total }),
    message: said ? `${server}: ${said}` : `${server} is at work`,
  };
}

/** By name. Throws `store_unavailable`. */
export async function exposedTools({ desk, servers }: { servers: ToolServers; desk: ToolConsentDesk }): Promise<ExposedTool[]> {
  const exposing = servers.all().filter(({ settings, tools }) => settings.expose.length > 0 && tools.size > 0);
  const all = await Promise.all(
    exposing.map(async (server): Promise<ExposedTool[]> => {
      const { expose, name } = server.settings;
      const judged = await desk.judgeAll(server);
      return judged
        .filter(({ definition, verdict }) => isNamed(expose, definition.name) && verdict.decision !== "deny")
        .map(({ definition, pin }) => {
          const title = cleanText(definition.title ?? definition.annotations?.title, 100);
          return {
            name: exposedName(name, definition.name),
            server: name,
            tool: definition.name,
            ...(title !== undefined && { title }),
            description: exposedDescription(name, definition.description),
            inputSchema: shownSchema(definition.inputSchema),
            ...(definition.outputSchema && { outputSchema: shownSchema(definition.outputSchema) }),
            ...(definition.annotations && { annotations: shownAnnotations(definition.annotations) }),
            pin,
          };
        });
    }),
  );
  return all.flat().sort((one, other) => (one.name < other.name ? -1 : 1));
}
