/** Who uses how much of the devices, and how long their jobs wait for it. */

import type { TenantView } from "@switchyard/protocol";
import { duration, number, percent } from "../format.ts";
import { useResource } from "../live.ts";
import { hashOf } from "../route.ts";
import { may } from "../session.ts";
import { Bar, Loaded, Table } from "../widgets.tsx";

const waitingOf = ({ waiting }: TenantView): number => waiting.reduce((sum, { jobs }) => sum + jobs, 0);

export function TenantsPage() {
  const tenants = useResource<{ items: TenantView[] }>("/v1/tenants");
  return (
    <>
      <h1>Tenants</h1>
      <Loaded from={tenants}>
        {({ items }) => {
          const weights = items.reduce((sum, { weight }) => sum + weight, 0);
          return (
            <Table
              label="Tenants"
              rows={items}
              rowKey={({ tenant }) => tenant}
              columns={[
                {
                  title: "tenant",
                  cell: ({ tenant }) => (may("operate") ? <a href={hashOf("jobs", [], { tenant })}>{tenant}</a> : tenant),
                },
                { title: "weight", cell: ({ weight }) => number(weight), right: true },
                { title: "share when all wait", cell: ({ weight }) => percent(weight / weights), right: true },
                {
                  title: "device time, last minute",
                  cell: ({ recent }) =>
                    recent ? (
                      <Bar share={recent.device_share} label={`${percent(recent.device_share)}, ${duration(recent.device_ms)}`} />
                    ) : (
                      "–"
                    ),
                },
                { title: "ended", cell: ({ recent }) => number(recent?.jobs ?? 0), right: true },
                { title: "waiting", cell: (tenant) => number(waitingOf(tenant)), right: true },
                { title: "wait p50", cell: ({ recent }) => duration(recent?.queue_ms.p50), right: true },
                { title: "p95", cell: ({ recent }) => duration(recent?.queue_ms.p95), right: true },
                { title: "p99", cell: ({ recent }) => duration(recent?.queue_ms.p99), right: true },
                { title: "keys", cell: ({ keys }) => keys.join(", ") || "–" },
              ]}
              empty="There are none."
            />
          );
        }}
      </Loaded>
    </>
  );
}
