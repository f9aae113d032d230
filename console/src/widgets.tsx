/** What pages are made of. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal } from "./api.ts";
import type { Resource } from "./live.ts";
import { refine, route } from "./route.ts";

export function State({ of }: { of: string }) {
  return <span class={`state ${of}`}>{of}</span>;
}

export function Stat({ label, value, tone, hint }: { label: string; value: string; tone?: "good" | "bad" | undefined; hint?: string }) {
  return (
    <div class={`stat ${tone ?? ""}`} title={hint}>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}

export function Bar({ share, label }: { share: number; label: string }) {
  return (
    <span class="bar">
      <progress max={1} value={Math.min(1, Math.max(0, share))} aria-label={label} />
      <span>{label}</span>
    </span>
  );
}

type Answer<T> = Pick<Resource<T>, "value" | "error">;

/** What was asked for, or why it is not there; where only an earlier answer is, both. */
export function Loaded<T>({ from: { error, value }, children }: { from: Answer<T>; children: (value: T) => ComponentChildren }) {
  if (value !== undefined) {
    return (
      <>
        {error && <Fault error={error} says="What is shown is not current" />}
        {children(value)}
      </>
    );
  }
  return error ? <Fault error={error} /> : <p class="quiet">…</p>;
}

export function Fault({ error, says }: { error: Error; says?: string }) {
  return (
    <p class="fault" role="alert">
      {says !== undefined && `${says}: `}
      {error.message}
      {error instanceof Refusal && <code> {error.code}</code>}
    </p>
  );
}

/** A filter of the page's address, by text. */
export function TextFilter({ name, placeholder }: { name: string; placeholder: string }) {
  return (
    <label>
      {name}
      <input
        type="search"
        value={route.value.query[name] ?? ""}
        placeholder={placeholder}
        onChange={({ currentTarget }) => refine({ [name]: currentTarget.value.trim() })}
      />
    </label>
  );
}

interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  right?: boolean;
}

export function Table<T>({
  label,
  rows,
  columns,
  rowKey,
  empty,
}: {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  rowKey: (row: T) => string;
  empty: string;
}) {
  if (rows.length === 0) return <p class="quiet">{empty}</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <section class="scroll" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {columns.map(({ right, title }) => (
              <th key={title} scope="col" class={right ? "right" : ""}>
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)}>
              {columns.map(({ cell, right, title }) => (
                <td key={title} class={right ? "right" : ""}>
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** A button that does something on the server: it says that it works, and what went wrong. */
export function Action({ label, run, danger }: { label: string; run: () => Promise<unknown>; danger?: boolean }) {
  const [state, setState] = useState<"rest" | "busy" | Error>("rest");
  const press = async (): Promise<void> => {
    setState("busy");
    try {
      await run();
      setState("rest");
    } catch (error) {
      setState(error as Error);
    }
  };
  return (
    <>
      <button type="button" class={danger ? "danger" : ""} disabled={state === "busy"} onClick={() => void press()}>
        {label}
      </button>
      {state instanceof Error && <Fault error={state} />}
    </>
  );
}

/** Asks before something is done to many: what, to how many, and goes on only when that is known. */
export function Confirmation({
  title,
  children,
  yes,
  onYes,
  onClose,
}: {
  title: string;
  children: ComponentChildren;
  /** Absent: there is nothing to confirm. */
  yes: string | undefined;
  onYes: () => Promise<void>;
  onClose: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="confirmation-title">
      <h2 id="confirmation-title">{title}</h2>
      {children}
      <p class="actions">
        <button type="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
        {yes !== undefined && <Action label={yes} danger run={onYes} />}
      </p>
    </dialog>
  );
}
