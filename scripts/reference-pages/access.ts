/** docs/reference/access.md: which routes a key opens. */

import { routeAccess } from "../../coordinator/src/doors/route-access.ts";
import { code, generatedPage, markdownTable } from "./markdown-table.ts";

const about = `
Where [keys](../access.md) are used, a key opens a route if it has one of these scopes; *open* routes ask for none, and those for *hosts* take
no API key.`;

export function accessPage(): string {
  const built = Object.entries(routeAccess).filter(([row]) => !row.startsWith("* ")); // the others answer that they are not supported
  const rows = built.map(([row, access]) => {
    const [method, path] = row.split(" ") as [string, string];
    return [
      method,
      code(path.replace(/(?<!:):(\w+)/g, "{$1}").replaceAll("::", ":")),
      typeof access === "string" ? `*${access}*` : access.map(code).join(", "),
    ];
  });
  return generatedPage(
    "Routes and scopes",
    "coordinator/src/doors/route-access.ts",
    `${about.trim()}\n\n${markdownTable(["method", "path", "scopes"], rows)}`,
  );
}
