/** Where in the console we are: a page, a name below it, and its filters, all in the part of the address behind #. */

import { signal } from "@preact/signals";

export interface Route {
  page: string;
  /** What is looked at, such as a job's id. */
  rest: readonly string[];
  query: Readonly<Record<string, string>>;
}

function read(): Route {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [page = "", ...rest] = path.split("/").map(decodeURIComponent);
  return { page: page === "" ? "overview" : page, rest, query: Object.fromEntries(new URLSearchParams(query)) };
}

export const route = signal(read());
addEventListener("hashchange", () => {
  route.value = read();
});

export function hashOf(page: string, rest: readonly string[] = [], query: Record<string, string | undefined> = {}): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${[page, ...rest].map(encodeURIComponent).join("/")}${search === "" ? "" : `?${search}`}`;
}

export function go(page: string, rest: readonly string[] = [], query: Record<string, string | undefined> = {}): void {
  location.hash = hashOf(page, rest, query);
}

/** The same page with other filters, without another entry in the browser's history. */
export function refine(query: Record<string, string | undefined>): void {
  const { page, query: before, rest } = route.value;
  history.replaceState(null, "", hashOf(page, rest, { ...before, ...query }));
  route.value = read();
}
