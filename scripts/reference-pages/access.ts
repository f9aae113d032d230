/** docs/reference/access.md: which routes a key opens. */

import { accessOf, grpcTwins, type RouteAccess, routeAccess } from "../../coordinator/src/doors/route-access.ts";
import { code, generatedPage, markdownTable } from "./markdown-table.ts";

const about = `
Where [keys](../access.md) are used, a key opens a route if it has one of these scopes; *open* routes ask for none, and those for *hosts* take
no API key.`;

export function accessPage(): string {
  const built = Object.entries(routeAccess).filter(([row]) => !row.startsWith("* ")); // the others answer that they are not supported
  const rows = built.map(([row, access]) => {
    const [method, path] = row.split(" ") as [string, string];
    return [method, code(path.replace(/(?<!:):(\w+)/g, "{$1}").replaceAll("::", ":")), scopesIn(access)];
  });
  const methodRows = Object.entries(grpcTwins).map(([name, [method, url]]) => [code(name), scopesIn(accessOf(method, url))]);
  const grpc = `Methods of [gRPC](../grpc.md) ask for what their routes ask for:\n\n${markdownTable(["method", "scopes"], methodRows)}`;
  return generatedPage(
    "Routes and scopes",
    "coordinator/src/doors/route-access.ts",
    `${about.trim()}\n\n${markdownTable(["method", "path", "scopes"], rows)}\n\n${grpc}`,
  );
}

const scopesIn = (access: RouteAccess): string => (typeof access === "string" ? `*${access}*` : access.map(code).join(", "));
