/** Plain aligned columns for people; never used with --json. */

export type Cell = string | number | undefined;

export interface Column {
  title: string;
  align?: "left" | "right";
}

/** Lines without trailing spaces. Missing cells are shown as "-". */
export function textTable(columns: readonly Column[], rows: readonly (readonly Cell[])[]): string {
  const cells = [columns.map((column) => column.title), ...rows.map((row) => columns.map((_, index) => shown(row[index])))];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]!.length)));
  return cells
    .map((row) =>
      row
        .map((text, index) => (columns[index]!.align === "right" ? text.padStart(widths[index]!) : text.padEnd(widths[index]!)))
        .join("  "),
    )
    .map((line) => line.trimEnd())
    .join("\n");
}

function shown(cell: Cell): string {
  if (cell === undefined || cell === "") return "-";
  // Control characters of a stranger's tag must not reach the terminal.
  return String(cell).replace(/\p{Cc}/gu, "?");
}

export function shortDuration(ms: number | undefined): string | undefined {
  if (ms === undefined) return undefined;
  if (ms < 1_000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`;
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 3_600_000)} h`;
}

export function shortSize(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 ** 2) return `${(bytes / 1024).toFixed(1)} KiB`;
  return bytes < 1024 ** 3 ? `${(bytes / 1024 ** 2).toFixed(1)} MiB` : `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
