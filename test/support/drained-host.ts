/** A host that takes no jobs for a while: what is submitted meanwhile waits, however long that lasts. One that is frozen is declared lost after three seconds. */

import assert from "node:assert/strict";
import type { HostView } from "@switchyard/protocol";
import { call } from "./calls.ts";
import { until } from "./until.ts";

/** Runs `act` while the host is drained; it takes jobs again when this resolves. `at` is the address of a coordinator, or tells it where it may change. */
export async function whileDrained<Answer>(at: string | (() => string), host: string, act: () => Promise<Answer>): Promise<Answer> {
  const url = (): string => (typeof at === "string" ? at : at());
  const drain = async (method: "POST" | "DELETE"): Promise<void> => {
    const answer = await call(`${url()}/v1/hosts/${host}/drain`, { method });
    assert.equal(answer.status, 202, `${answer.bytes}`);
  };
  const untilHost = (what: string, isSo: (view: HostView) => boolean): Promise<unknown> =>
    until(`${host} ${what}`, async () => {
      const { items } = (await call(`${url()}/v1/hosts`)).json() as { items: HostView[] };
      return items.some((view) => view.id === host && isSo(view));
    });
  await drain("POST");
  try {
    await untilHost("to take no jobs", ({ state, tickets }) => state === "draining" && tickets === 0);
    return await act();
  } finally {
    await drain("DELETE");
    await untilHost("to take jobs again", ({ state }) => state === "ready");
  }
}
