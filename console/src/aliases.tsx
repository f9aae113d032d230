/** The aliases of a model; and, for those whose key may, the form that sets one, and the buttons that promote, roll back and remove. */

import type { AliasTarget, AliasView, ModelView } from "@switchyard/protocol";
import { useState } from "preact/hooks";
import { type AliasFields, fieldsOf, standsFor, targetFrom } from "./alias-target.ts";
import { ask } from "./api.ts";
import { time } from "./format.ts";
import { beat, useResource } from "./live.ts";
import { may } from "./session.ts";
import { Action, Confirmation, Loaded, Table } from "./widgets.tsx";

interface Props {
  model: string;
  versions: readonly ModelView[];
}

/** What is asked about before it is done. */
interface Asked {
  title: string;
  says: string;
  yes: string;
  run: () => Promise<unknown>;
}

export function Aliases({ model, versions }: Props) {
  const path = `/v1/models/${encodeURIComponent(model)}/aliases`;
  const aliases = useResource<{ items: AliasView[] }>(path);
  const [edited, setEdited] = useState<AliasView | "new" | undefined>(undefined);
  const [asked, setAsked] = useState<Asked | undefined>(undefined);
  const mayChange = may("operate", "admin");
  const changed = (): void => {
    aliases.again();
    beat.value += 1; // signature and traffic follow
  };
  const rollBack = ({ name, previous, target }: AliasView): Asked => ({
    title: `Roll ${name} back`,
    says: `${name} stands for ${standsFor(target)}. Requests will go to ${standsFor(previous as AliasTarget)} again, once it is loaded.`,
    yes: `Roll back to ${standsFor(previous as AliasTarget)}`,
    run: () => ask(`${path}/${name}/rollback`, { method: "POST" }),
  });
  const remove = ({ name }: AliasView): Asked => ({
    title: `Remove ${name}`,
    says:
      name === "default"
        ? "Requests without a version will get the highest one that can be served."
        : `Requests that name ${name} will be refused.`,
    yes: `Remove ${name}`,
    run: () => ask(`${path}/${name}`, { method: "DELETE" }),
  });
  const changes = {
    title: "change",
    cell: (alias: AliasView) => (
      <span class="actions">
        <button type="button" aria-label={`Change ${alias.name}`} onClick={() => setEdited(alias)}>
          Change
        </button>
        {alias.previous && (
          <button type="button" aria-label={`Roll ${alias.name} back`} onClick={() => setAsked(rollBack(alias))}>
            Roll back
          </button>
        )}
        <button type="button" class="danger" aria-label={`Remove ${alias.name}`} onClick={() => setAsked(remove(alias))}>
          Remove
        </button>
      </span>
    ),
  };
  return (
    <>
      <h2>Aliases</h2>
      <Loaded from={aliases}>
        {({ items }) => (
          <>
            <Table
              label="Aliases"
              rows={items}
              rowKey={({ name }) => name}
              columns={[
                { title: "alias", cell: ({ name }) => name },
                { title: "stands for", cell: ({ target }) => standsFor(target) },
                { title: "before", cell: ({ previous }) => (previous ? standsFor(previous) : "–") },
                { title: "since", cell: ({ updated_at }) => time(updated_at) },
                ...(mayChange ? [changes] : []),
              ]}
              empty="None: requests without a version get the highest one that can be served."
            />
            {mayChange && edited === undefined && (
              <p class="actions">
                <button type="button" onClick={() => setEdited("new")}>
                  Set an alias
                </button>
              </p>
            )}
            {mayChange && edited !== undefined && (
              <AliasForm
                key={edited === "new" ? "" : edited.name}
                alias={edited === "new" ? undefined : edited}
                names={items.map(({ name }) => name)}
                path={path}
                versions={versions}
                onChanged={changed}
                onClose={() => setEdited(undefined)}
              />
            )}
          </>
        )}
      </Loaded>
      {asked && (
        <Confirmation
          title={asked.title}
          yes={asked.yes}
          onYes={async () => {
            await asked.run();
            setAsked(undefined);
            setEdited(undefined);
            changed();
          }}
          onClose={() => setAsked(undefined)}
        >
          <p>{asked.says}</p>
        </Confirmation>
      )}
    </>
  );
}

interface FormProps {
  /** Absent: a new one. */
  alias: AliasView | undefined;
  names: readonly string[];
  path: string;
  versions: readonly ModelView[];
  onChanged: () => void;
  onClose: () => void;
}

function AliasForm({ alias, names, onChanged, onClose, path, versions }: FormProps) {
  const usable = versions.filter(({ state }) => state !== "failed" && state !== "leaving").map(({ version }) => String(version));
  const numbers = [...new Set([...usable, ...versionsIn(alias?.target)])];
  const [name, setName] = useState(alias?.name ?? "");
  const [fields, setFields] = useState<AliasFields>(() => fieldsOf(alias?.target, numbers[0] ?? ""));
  const change = (some: Partial<AliasFields>): void => setFields((before) => ({ ...before, ...some }));
  const send = async (act: () => Promise<unknown>): Promise<void> => {
    if (name === "") throw new Error("Give the alias a name");
    await act();
    onChanged();
    onClose();
  };
  const one = `${path}/${encodeURIComponent(name)}`;
  const set = () => send(() => ask(one, { method: "PUT", body: targetFrom(fields) }));
  const promote = () => send(() => ask(`${one}/promote`, { method: "POST", body: { version: Number(fields.version) } }));
  const others = names.filter((other) => other !== "default" && other !== name);
  return (
    <form class="card" aria-label={alias ? `Change ${alias.name}` : "Set an alias"} onSubmit={(event) => event.preventDefault()}>
      <div class="filters">
        <label>
          alias
          <input
            value={name}
            disabled={alias !== undefined}
            placeholder="such as stable"
            maxLength={32}
            onInput={({ currentTarget }) => setName(currentTarget.value.trim())}
          />
        </label>
        <Choice
          label="stands for"
          value={fields.kind}
          options={[
            ["version", "one version"],
            ["split", "versions by weight"],
            ...(name === "default" ? [["alias", "another alias"] as const] : []),
          ]}
          onChange={(kind) => change({ kind: kind as AliasFields["kind"] })}
        />
        {fields.kind === "version" && (
          <Choice label="version" value={fields.version} options={named(numbers)} onChange={(version) => change({ version })} />
        )}
        {fields.kind === "split" &&
          numbers.map((number) => (
            <label key={number}>
              weight of version {number}
              <input
                inputMode="decimal"
                size={6}
                value={fields.weights[number] ?? ""}
                onInput={({ currentTarget }) => change({ weights: { ...fields.weights, [number]: currentTarget.value } })}
              />
            </label>
          ))}
        {fields.kind === "alias" && (
          <Choice
            label="other alias"
            value={fields.alias}
            options={[["", "choose …"], ...named(others)]}
            onChange={(other) => change({ alias: other })}
          />
        )}
        {fields.kind !== "alias" && (
          <Choice
            label="shadow"
            value={fields.shadow}
            options={[["", "none"], ...numbers.map((number) => [number, `version ${number}`] as const)]}
            onChange={(shadow) => change({ shadow })}
          />
        )}
        {fields.kind !== "alias" && fields.shadow !== "" && (
          <label>
            percent of requests
            <input
              inputMode="decimal"
              size={6}
              value={fields.shadowPercent}
              onInput={({ currentTarget }) => change({ shadowPercent: currentTarget.value })}
            />
          </label>
        )}
      </div>
      <p class="actions">
        <button type="button" onClick={onClose}>
          Close
        </button>
        {fields.kind === "version" && <Action label={`Promote version ${fields.version}`} run={promote} />}
        <Action label="Set at once" run={set} />
      </p>
      <p class="quiet">
        {fields.kind === "version" && "Promoting waits until a host has the version loaded, and ends split and shadow. "}
        Setting waits for no load.
      </p>
    </form>
  );
}

/** Those that it stands for are offered whatever has become of them: the form must show what is. */
function versionsIn({ shadow, split = {}, version }: AliasTarget = {}): string[] {
  return [version, ...Object.keys(split), shadow?.version].filter((one) => one !== undefined).map(String);
}

function Choice(of: {
  label: string;
  value: string;
  options: readonly (readonly [value: string, text: string])[];
  onChange: (value: string) => void;
}) {
  return (
    <label>
      {of.label}
      <select value={of.value} onChange={({ currentTarget }) => of.onChange(currentTarget.value)}>
        {of.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

function named(values: readonly string[]): (readonly [string, string])[] {
  return values.map((value) => [value, value]);
}
