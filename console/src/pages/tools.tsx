/** MCP servers whose tools the cluster uses: their state, what would become of a call, and the decision about it. */

import type { ToolServerDetails, ToolServerView, ToolView } from "@switchyard/protocol";
import { ask } from "../api.ts";
import { number, plural, time } from "../format.ts";
import { useResource } from "../live.ts";
import { hashOf, route } from "../route.ts";
import { Action, Loaded, State, Table } from "../widgets.tsx";

export function ToolsPage() {
  const [name] = route.value.rest;
  return name === undefined ? <Servers /> : <Server name={name} />;
}

function Servers() {
  const servers = useResource<{ items: ToolServerView[] }>("/v1/mcp/servers");
  return (
    <>
      <h1>Tools</h1>
      <p class="quiet">MCP servers, as the coordinator that answers this page sees them.</p>
      <Loaded from={servers}>
        {({ items }) => (
          <Table
            label="MCP servers"
            rows={items}
            rowKey={(server) => server.name}
            columns={[
              { title: "server", cell: (server) => <a href={hashOf("tools", [server.name])}>{server.name}</a> },
              { title: "state", cell: ({ state }) => <State of={state} /> },
              { title: "since", cell: ({ since }) => time(since) },
              { title: "by", cell: ({ endpoint, transport }) => `${transport} ${endpoint}` },
              { title: "protocol", cell: ({ protocol_version: version }) => version ?? "–" },
              { title: "tools", cell: ({ tools }) => number(tools), right: true },
              { title: "calls", cell: ({ calls }) => number(calls.running + calls.waiting), right: true },
              { title: "lost", cell: ({ losses }) => number(losses), right: true },
              { title: "last error", cell: ({ last_error: error }) => error?.detail ?? "–" },
            ]}
            empty="None is configured."
          />
        )}
      </Loaded>
    </>
  );
}

function Server({ name }: { name: string }) {
  const path = `/v1/mcp/servers/${encodeURIComponent(name)}`;
  const server = useResource<ToolServerDetails>(path);
  return (
    <>
      <h1>Tools of {name}</h1>
      <p>
        <a href={hashOf("tools")}>All servers</a>
      </p>
      <Loaded from={server}>
        {(view) => (
          <>
            <p>
              <State of={view.state} /> since {time(view.since)}, {plural(view.losses, "loss", "losses")}
            </p>
            {view.last_error && (
              <p class="fault">
                {time(view.last_error.at)}: {view.last_error.detail}
              </p>
            )}
            <div class="cards">
              {view.tool_list.map((tool) => (
                <Tool
                  key={tool.name}
                  tool={tool}
                  path={`${path}/tools/${encodeURIComponent(tool.name)}/consent`}
                  onDecided={server.again}
                />
              ))}
            </div>
            {view.tool_list.length === 0 && <p class="quiet">It lists no tools.</p>}
          </>
        )}
      </Loaded>
    </>
  );
}

const decisions = { allow: "allowed", ask: "asked for", deny: "refused" } as const;

function Tool({ tool, path, onDecided }: { tool: ToolView; path: string; onDecided: () => void }) {
  // what is decided on is what is shown
  const decide = async (decision: "allow" | "deny"): Promise<void> => {
    await ask(path, { method: "PUT", body: { decision, pin: tool.pin } });
    onDecided();
  };
  const forget = async (): Promise<void> => {
    await ask(path, { method: "DELETE" });
    onDecided();
  };
  return (
    <article class="card" aria-label={`Tool ${tool.name}`}>
      <header>
        <h2>{tool.name}</h2>
        <span class={`state ${tool.decision}`}>{decisions[tool.decision]}</span>
      </header>
      <p class="quiet">
        Calls are {decisions[tool.decision]}: {tool.reason}.
      </p>
      {tool.description !== undefined && <p>“{tool.description}”</p>}
      {tool.asked && (
        <p>
          Asked for {plural(tool.asked.times, "time")}, last by {tool.asked.by} at {time(tool.asked.at)}.
        </p>
      )}
      <details>
        <summary>What it takes</summary>
        <pre>{JSON.stringify(tool.input_schema, null, 2)}</pre>
      </details>
      <p class="actions">
        {tool.decision !== "allow" && <Action label={`Allow ${tool.name}`} danger run={() => decide("allow")} />}
        {tool.decision !== "deny" && <Action label={`Refuse ${tool.name}`} run={() => decide("deny")} />}
        {tool.consent && <Action label={`Forget the decision about ${tool.name}`} run={forget} />}
      </p>
    </article>
  );
}
