/** The frame around all pages: where to go, who asks, whether the server answers. */

import { effect } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { apiKey, isAway, Refusal, useKey } from "./api.ts";
import { overviewFault, stayCurrent } from "./live.ts";
import { DeadLettersPage } from "./pages/dead-letters.tsx";
import { HostsPage } from "./pages/hosts.tsx";
import { JobsPage } from "./pages/jobs.tsx";
import { ModelsPage } from "./pages/models.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { QueuesPage } from "./pages/queues.tsx";
import { TenantsPage } from "./pages/tenants.tsx";
import { ToolsPage } from "./pages/tools.tsx";
import { go, hashOf, route } from "./route.ts";
import { caller, follow, isReadOnly, keyFault, may } from "./session.ts";
import "./style.css";
import { otherTheme, theme } from "./theme.ts";

/** `scopes`: of which a key needs one for the page to be of use. */
const pages = [
  { name: "overview", title: "Overview", key: "o", scopes: ["read", "operate"], Page: OverviewPage },
  { name: "queues", title: "Queues", key: "q", scopes: ["read", "operate"], Page: QueuesPage },
  { name: "jobs", title: "Jobs", key: "j", scopes: ["read"], Page: JobsPage },
  { name: "dead", title: "Dead letters", key: "d", scopes: ["read", "operate"], Page: DeadLettersPage },
  { name: "hosts", title: "Hosts", key: "h", scopes: ["operate"], Page: HostsPage },
  { name: "models", title: "Models", key: "m", scopes: ["submit", "read", "operate"], Page: ModelsPage },
  { name: "tenants", title: "Tenants", key: "t", scopes: ["operate", "admin"], Page: TenantsPage },
  { name: "tools", title: "Tools", key: "u", scopes: ["operate"], Page: ToolsPage },
] as const;

function App() {
  const { page: name } = route.value;
  const page = pages.find((one) => one.name === name);
  const mayOpen = page !== undefined && may(...page.scopes);
  useKeys();
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the page
      </button>
      <header class="top">
        <a class="brand" href={hashOf("overview")}>
          Switchyard
        </a>
        <nav aria-label="Pages">
          {pages
            .filter(({ scopes }) => may(...scopes))
            .map(({ key, name: to, title }) => (
              <a key={to} href={hashOf(to)} aria-current={to === name ? "page" : undefined} title={`g ${key}`}>
                {title}
              </a>
            ))}
        </nav>
        <span class="who">
          {caller.value && (
            <span title={caller.value.scopes.join(", ")}>
              {caller.value.key_id ?? caller.value.tenant}
              {isReadOnly.value && <em> read-only</em>}
            </span>
          )}
          <KeyButton />
          <button type="button" onClick={otherTheme} aria-label={theme.value === "dark" ? "Light colours" : "Dark colours"}>
            {theme.value === "dark" ? "☀" : "☾"}
          </button>
          <HelpButton />
        </span>
      </header>
      <p class={isAway.value ? "away" : "away hidden"} role="status">
        {isAway.value ? awayText(overviewFault.value) : ""}
      </p>
      <main id="main" tabIndex={-1}>
        {caller.value === undefined ? (
          <Gate />
        ) : page === undefined ? (
          <p>
            There is no such page. <a href={hashOf("overview")}>Overview</a>
          </p>
        ) : mayOpen ? (
          <page.Page />
        ) : (
          <p class="fault">This key lacks the scope {page.scopes.join(" or ")}, which this page needs.</p>
        )}
      </main>
    </>
  );
}

/** A server that refuses answers, and says why there is nothing new. */
function awayText(why: Error | undefined): string {
  if (why instanceof Refusal) return `What is shown is not current: ${why.message}. The console tries again.`;
  return "Connection lost: trying again. What is shown is not current.";
}

/** Before anything is shown: the key, where one is asked for. */
function Gate() {
  if (keyFault.value === undefined) return <p class="quiet">Asking the server …</p>;
  return (
    <>
      <h1>API key</h1>
      <p class={apiKey.value === "" ? "" : "fault"}>{keyFault.value}</p>
      <KeyForm />
    </>
  );
}

function KeyForm({ onDone }: { onDone?: () => void }) {
  const [text, setText] = useState("");
  return (
    <form
      class="filters"
      onSubmit={(event) => {
        event.preventDefault();
        useKey(text.trim());
        onDone?.();
      }}
    >
      <label>
        key
        <input type="password" autoComplete="off" value={text} onInput={({ currentTarget }) => setText(currentTarget.value)} />
      </label>
      <button type="submit">Use it</button>
      {apiKey.value !== "" && (
        <button
          type="button"
          onClick={() => {
            useKey("");
            onDone?.();
          }}
        >
          Forget it
        </button>
      )}
      <span class="quiet">It is kept in this tab until the tab is closed.</span>
    </form>
  );
}

function KeyButton() {
  const dialog = useRef<HTMLDialogElement>(null);
  return (
    <>
      <button type="button" onClick={() => dialog.current?.showModal()}>
        Key
      </button>
      <dialog ref={dialog} aria-label="API key">
        <h2>API key</h2>
        <KeyForm onDone={() => dialog.current?.close()} />
      </dialog>
    </>
  );
}

const help = [
  ["g, then a letter", `a page: ${pages.map(({ key, name }) => `${key} ${name}`).join(", ")}`],
  ["↓ ↑ or j k", "the next or the last job of the list"],
  ["Enter", "open the job"],
  ["x or space", "select the job"],
  ["/", "to the first filter"],
  ["Esc", "close what is open"],
  ["?", "this page"],
];

function HelpButton() {
  const dialog = useRef<HTMLDialogElement>(null);
  return (
    <>
      <button id="help" type="button" aria-label="Keys of the keyboard" onClick={() => dialog.current?.showModal()}>
        ?
      </button>
      <dialog ref={dialog} aria-label="Keys of the keyboard">
        <h2>Keys</h2>
        <dl class="facts">
          {help.map(([keys, what]) => (
            <div key={keys}>
              <dt>{keys}</dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <form method="dialog">
          <button type="submit">Close</button>
        </form>
      </dialog>
    </>
  );
}

function useKeys(): void {
  useEffect(() => {
    let isGoing = false;
    const onKey = (event: KeyboardEvent): void => {
      const { target } = event;
      const isTyping = target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
      if (event.ctrlKey || event.metaKey || event.altKey || (isTyping && target.type !== "checkbox")) return;
      if (document.querySelector("dialog[open]")) return;
      const page = isGoing ? pages.find(({ key }) => key === event.key) : undefined;
      isGoing = event.key === "g";
      if (page) go(page.name);
      else if (event.key === "?") document.getElementById("help")?.click();
      else if (event.key === "/") document.querySelector<HTMLElement>(".filters select, .filters input")?.focus();
      else if (event.key === "Escape" && route.value.rest.length > 0) go(route.value.page, [], route.value.query);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

follow();
effect(() => {
  void apiKey.value;
  const stop = new AbortController();
  void stayCurrent(stop.signal);
  return () => stop.abort();
});
const place = document.getElementById("app") as HTMLElement;
place.textContent = "";
render(<App />, place);
