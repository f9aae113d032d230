/** What a coordinator has only so much of, and who gets it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { givingWay, type HeldSession } from "../../coordinator/src/doors/mcp/sessions.ts";
import { TenantShares } from "../../coordinator/src/doors/mcp/tenant-shares.ts";

/** How many each of the tenants gets that take turns until nobody gets any more. */
function fill(shares: TenantShares, tenants: readonly string[]): number[] {
  const got = tenants.map(() => 0);
  for (let granted = true; granted; ) {
    granted = false;
    for (const [at, tenant] of tenants.entries()) {
      if (!shares.take(tenant)) continue;
      got[at]! += 1;
      granted = true;
    }
  }
  return got;
}

test("a tenant alone gets half, several get equal shares, and whoever comes next finds room", () => {
  assert.deepEqual(fill(new TenantShares(100), ["anna"]), [50]);
  const shares = new TenantShares(100);
  const [anna, berta] = fill(shares, ["anna", "berta"]);
  assert.ok(Math.abs(anna! - berta!) <= 1 && anna! + berta! >= 66, `${anna} ${berta}`);
  assert.ok(shares.take("carla"), "one more tenant");
});

test("what is given back is granted again", () => {
  const shares = new TenantShares(4);
  const back = shares.take("anna");
  assert.ok(shares.take("anna"));
  assert.equal(shares.take("anna"), undefined);
  back?.();
  assert.ok(shares.take("anna"));
});

const session = (id: string, tenant: string, isIdle = true): HeldSession => ({ id, tenant, key: `${tenant}/${id[0]}`, isIdle });

test("a key that has its most gives up its own longest idle session", () => {
  const held = [session("a1", "anna", false), session("b1", "anna"), session("a2", "anna"), session("a3", "anna")];
  const limits = { mostOfOneKey: 3, most: 100 };
  assert.equal(givingWay(held, { key: "anna/a", ...limits }), "a2");
  assert.equal(givingWay(held, { key: "anna/b", ...limits }), undefined);
  const busy = held.map((one) => ({ ...one, isIdle: false }));
  assert.equal(givingWay(busy, { key: "anna/a", ...limits }), "none is idle");
});

test("where all places are taken, a newcomer gets one of the tenant that has the most", () => {
  const held = [session("c1", "carla"), session("a1", "anna", false), session("b1", "anna"), session("a2", "anna"), session("a3", "anna")];
  assert.equal(givingWay(held, { key: "berta/x", mostOfOneKey: 64, most: 5 }), "a2", "of its largest key, that which was idle for longest");
  const busy = held.map((one) => ({ ...one, isIdle: one.tenant === "carla" }));
  assert.equal(givingWay(busy, { key: "berta/x", mostOfOneKey: 64, most: 5 }), "c1");
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom("x", "y", "z"), fc.boolean()), { minLength: 1 }), (drawn) => {
      const some = drawn.map(([tenant, isIdle], at) => session(`k${at}`, tenant, isIdle));
      const gone = givingWay(some, { key: "new/k", mostOfOneKey: 64, most: some.length });
      assert.equal(
        gone === "none is idle",
        some.every(({ isIdle }) => !isIdle),
      );
      if (gone !== "none is idle") assert.ok(some.find(({ id }) => id === gone)?.isIdle);
    }),
  );
});
