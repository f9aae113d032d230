/**
 * Who may ask what, as data: every route of /v1 and /v2 with the scopes of which a key needs one. A route that is not listed cannot be
 * registered. HEAD is GET; OPTIONS and methods that a route does not have reveal nothing and are answered to everybody.
 */

import type { Scope } from "@switchyard/protocol/api-keys";

/** `open`: no key is needed. `hosts`: no API key opens it, only the credential that hosts read in the store. */
export type RouteAccess = "open" | "hosts" | readonly [Scope, ...Scope[]];

const anyKey = ["submit", "read", "operate", "admin"] as const;
/** Whoever submits must be able to ask how. */
const modelUsers = ["submit", "read", "operate"] as const;
const operators = ["operate", "admin"] as const;

export const routeAccess: Readonly<Record<string, RouteAccess>> = {
  "GET /livez": "open",
  "GET /readyz": "open",
  "GET /openapi.json": "open",
  "GET /": "open",
  "GET /assets/*": "open",
  "GET /v2/health/live": "open",
  "GET /v2/health/ready": "open",

  "GET /v2": anyKey,
  "GET /v2/models/:model": modelUsers,
  "GET /v2/models/:model/versions/:version": modelUsers,
  "GET /v2/models/:model/config": modelUsers,
  "GET /v2/models/:model/versions/:version/config": modelUsers,
  "GET /v2/models/:model/ready": modelUsers,
  "GET /v2/models/:model/versions/:version/ready": modelUsers,
  "POST /v2/models/:model/infer": ["submit"],
  "POST /v2/models/:model/versions/:version/infer": ["submit"],
  "POST /v2/repository/index": modelUsers,
  "POST /v2/repository/:repository/index": modelUsers,
  "POST /v2/repository/models/:model/load": operators,
  "POST /v2/repository/models/:model/unload": operators,
  "GET /v2/models/stats": ["read", "operate"],
  "GET /v2/models/:model/stats": ["read", "operate"],
  "GET /v2/models/:model/versions/:version/stats": ["read", "operate"],

  "POST /v1/jobs": ["submit"],
  "POST /v1/jobs::batch": ["submit"],
  "GET /v1/jobs": ["read"],
  "GET /v1/jobs/:id": ["read"],
  "DELETE /v1/jobs/:id": ["submit"],
  "GET /v1/jobs/:id/result": ["read"],
  "GET /v1/jobs/:id/events": ["read"],
  "GET /v1/jobs/:id/timeline": ["read"],
  "GET /v1/jobs/:id/inputs": ["read"],
  "POST /v1/jobs::cancel": ["submit"],
  "POST /v1/jobs/:id/retry": ["submit"],
  "GET /v1/dead-letters": ["read", "operate"],
  "POST /v1/dead-letters::requeue": ["operate"],
  "DELETE /v1/dead-letters/:id": ["submit", "operate"],
  "* /v1/events": ["read"],

  "GET /v1/caller": anyKey,
  "GET /v1/overview": ["read", "operate"],
  "GET /v1/overview/events": ["read", "operate"],
  "GET /v1/queues": ["read", "operate"],

  "GET /v1/models": modelUsers,
  "GET /v1/models/:model": modelUsers,
  "GET /v1/models/:model/versions/:version": modelUsers,
  "PUT /v1/models/:model/versions/:version": ["admin"],
  "DELETE /v1/models/:model/versions/:version": ["admin"],
  "PUT /v1/models/:model/versions/:version/files/*": ["admin"],
  "PUT /v1/models/:model/config": ["admin"],
  "DELETE /v1/models/:model/config": ["admin"],
  "GET /v1/models/:model/aliases": modelUsers,
  "GET /v1/models/:model/aliases/:alias": modelUsers,
  "PUT /v1/models/:model/aliases/:alias": operators,
  "DELETE /v1/models/:model/aliases/:alias": operators,
  "POST /v1/models/:model/aliases/:alias/promote": operators,
  "POST /v1/models/:model/aliases/:alias/rollback": operators,
  "GET /v1/models/:model/estimates": modelUsers,
  "GET /v1/models/:model/versions/:version/estimates": modelUsers,
  "GET /v1/hosts": ["operate"],
  "GET /v1/hosts/:id": ["operate"],
  "POST /v1/hosts/:id/drain": ["operate"],
  "DELETE /v1/hosts/:id/drain": ["operate"],
  "GET /v1/tenants": ["operate", "admin"],
  "GET /v1/mcp/servers": ["operate"],
  "GET /v1/mcp/servers/:server": ["operate"],
  "GET /v1/mcp/servers/:server/tools/:tool": ["operate"],
  "POST /v1/mcp/servers/:server/tools/:tool": ["submit"],
  "GET /v1/mcp/servers/:server/tools/:tool/consent": ["operate"],
  "PUT /v1/mcp/servers/:server/tools/:tool/consent": ["operate"],
  "DELETE /v1/mcp/servers/:server/tools/:tool/consent": ["operate"],
  "GET /v1/mcp/audit": ["operate"],
  "GET /v1/blobs/:sha256": "hosts",
  "PUT /v1/blobs/:sha256": "hosts",

  "GET /mcp": modelUsers,
  "POST /mcp": modelUsers,
  "DELETE /mcp": modelUsers,

  "* /v1/pipelines": ["submit"],
  "* /v1/pipelines/*": ["submit"],
  "* /v1/training": ["submit"],
  "* /v1/training/*": ["submit"],
};

/** Throws for a route that nobody thought about. */
export function accessOf(method: string, url: string): RouteAccess {
  const access = routeAccess[`${method} ${url}`];
  if (access === undefined) throw new Error(`${method} ${url}: no word in route-access.ts says who may ask this`);
  return access;
}

/** gRPC methods, each with the route that asks the same and whose scopes it therefore needs. */
export const grpcTwins = {
  ServerLive: ["GET", "/v2/health/live"],
  ServerReady: ["GET", "/v2/health/ready"],
  ServerMetadata: ["GET", "/v2"],
  ModelReady: ["GET", "/v2/models/:model/ready"],
  ModelMetadata: ["GET", "/v2/models/:model"],
  ModelConfig: ["GET", "/v2/models/:model/config"],
  ModelInfer: ["POST", "/v2/models/:model/infer"],
  ModelStreamInfer: ["POST", "/v2/models/:model/infer"],
  ModelStatistics: ["GET", "/v2/models/:model/stats"],
  RepositoryIndex: ["POST", "/v2/repository/index"],
  RepositoryModelLoad: ["POST", "/v2/repository/models/:model/load"],
  RepositoryModelUnload: ["POST", "/v2/repository/models/:model/unload"],
  Check: ["GET", "/v2/health/ready"],
  Watch: ["GET", "/v2/health/ready"],
} as const satisfies Readonly<Record<string, readonly [method: string, url: string]>>;

export type MethodName = keyof typeof grpcTwins;

export function isMethod(name: string): name is MethodName {
  return Object.hasOwn(grpcTwins, name);
}
