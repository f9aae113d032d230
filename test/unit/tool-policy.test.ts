import assert from "node:assert/strict";
import { test } from "node:test";
import {
  canonicalJson,
  configured,
  decide,
  hintsOf,
  originOf,
  type PolicyView,
  pinOf,
} from "../../coordinator/src/application/tool-policy.ts";
import type { StoredConsent } from "../../coordinator/src/ports/tool-consents.ts";
import type { ToolAnnotations, ToolTrust } from "../../coordinator/src/ports/tool-servers.ts";

const reading: ToolAnnotations = { readOnlyHint: true, openWorldHint: false };
const harmless: ToolAnnotations = { destructiveHint: false, openWorldHint: false };

function view(about: {
  trust?: ToolTrust;
  allow?: string[];
  deny?: string[];
  annotations?: ToolAnnotations;
  pin?: string;
  origin?: string;
  consent?: Partial<NonNullable<StoredConsent["consent"]>>;
}): PolicyView {
  const { allow = [], annotations, consent, deny = [], origin = "o1", pin = "p1", trust = "none" } = about;
  const stored = consent && { consent: { decision: "allow" as const, pin: "p1", origin: "o1", by: "ops", atMs: 0, ...consent } };
  return {
    settings: { trust, allowTools: allow, denyTools: deny },
    tool: { name: "write_row", ...(annotations && { annotations }) },
    pin,
    origin,
    stored,
  };
}

test("without a word from anybody, what may destroy or reaches outside is refused, and the rest is asked for", () => {
  assert.equal(decide(view({})).decision, "deny", "a tool without hints may do anything");
  assert.equal(decide(view({ annotations: { readOnlyHint: true } })).decision, "deny", "it may reach outside");
  assert.equal(decide(view({ annotations: { destructiveHint: false } })).decision, "deny", "it may reach outside");
  assert.equal(decide(view({ annotations: harmless })).decision, "ask");
  assert.equal(decide(view({ annotations: reading })).decision, "ask", "hints of a server that nobody trusts allow nothing");
});

test("hints of a trusted server allow reading, and full trust allows all", () => {
  assert.equal(decide(view({ trust: "hints", annotations: reading })).decision, "allow");
  assert.equal(decide(view({ trust: "hints", annotations: harmless })).decision, "ask");
  assert.equal(decide(view({ trust: "hints" })).decision, "deny");
  assert.equal(decide(view({ trust: "full" })).decision, "allow");
});

test("a list of the configuration allows by name or beginning, and one that denies wins over everything", () => {
  assert.equal(decide(view({ allow: ["write_row"] })).decision, "allow");
  assert.equal(decide(view({ allow: ["write_*"] })).decision, "allow");
  assert.equal(decide(view({ allow: ["write"] })).decision, "deny");
  assert.equal(decide(view({ allow: ["write_row"], deny: ["write_*"] })).decision, "deny");
  assert.equal(decide(view({ trust: "full", deny: ["*"], consent: {} })).decision, "deny", "also over a consent");
});

test("a consent holds for the definition and the server that it was given for", () => {
  assert.equal(decide(view({ consent: {} })).decision, "allow");
  assert.equal(decide(view({ consent: {}, pin: "p2" })).decision, "ask");
  assert.match(decide(view({ consent: {}, pin: "p2" })).reason, /definition has changed/);
  assert.equal(decide(view({ consent: {}, origin: "o2" })).decision, "ask");
  assert.equal(decide(view({ trust: "full", consent: {}, pin: "p2" })).decision, "ask", "also where the server is trusted");
  assert.equal(
    decide(view({ trust: "full", consent: { decision: "deny" }, pin: "p2" })).decision,
    "deny",
    "a refusal holds for all definitions",
  );
});

test("what the configuration allows is pinned at its first use, and asked for when it changes", () => {
  assert.equal(decide(view({ trust: "full" })).pinsNow, true);
  const pinned = { by: configured };
  assert.deepEqual(decide(view({ trust: "full", consent: pinned })), { decision: "allow", reason: "the server is trusted in full" });
  assert.equal(decide(view({ trust: "full", consent: pinned, pin: "p2" })).decision, "ask");
  assert.equal(
    decide(view({ trust: "full", consent: pinned, pin: "p2", origin: "o2" })).pinsNow,
    true,
    "the configuration replaced the server",
  );
  assert.equal(decide(view({ trust: "none", consent: pinned })).decision, "deny", "a first use is nobody's consent");
});

test("a pin covers all that a definition says, in whatever order", () => {
  const checks = { checkArguments: () => [], checkOutput: () => [] };
  const tool = { name: "a", description: "d", inputSchema: { type: "object", properties: { x: {} } }, ...checks };
  const pin = pinOf(tool);
  assert.equal(pinOf({ ...tool, inputSchema: { properties: { x: {} }, type: "object" } }), pin);
  for (const change of [
    { description: "e" },
    { title: "t" },
    { inputSchema: { type: "object" } },
    { outputSchema: {} },
    { annotations: { readOnlyHint: true } },
  ])
    assert.notEqual(pinOf({ ...tool, ...change }), pin, JSON.stringify(change));
  assert.equal(canonicalJson({ b: [1, { d: 1, c: 2 }], a: undefined }), '{"b":[1,{"c":2,"d":1}]}');
});

test("where a server comes from is its program or its address, not its secrets", () => {
  const place = {
    kind: "stdio",
    command: "/a/x",
    args: ["b"],
    env: { TOKEN: "1" },
    cwd: "/a",
    written: { command: "x", args: ["b"] },
  } as const;
  assert.equal(originOf({ place }), originOf({ place: { ...place, env: { TOKEN: "2" }, command: "/b/x", cwd: "/b" } }));
  assert.notEqual(originOf({ place }), originOf({ place: { ...place, written: { command: "x", args: ["c"] } } }));
  const http = { kind: "http", url: "https://a/", headers: {}, allowPrivate: [] } as const;
  assert.notEqual(originOf({ place: http }), originOf({ place: { ...http, url: "https://b/" } }));
});

test("hints that are left out are pessimistic", () => {
  assert.deepEqual(hintsOf({}), { readOnly: false, destructive: true, idempotent: false, openWorld: true });
  assert.deepEqual(hintsOf({ annotations: { readOnlyHint: true } }), {
    readOnly: true,
    destructive: false,
    idempotent: true,
    openWorld: true,
  });
});
