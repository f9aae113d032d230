/** The addresses that `up` and its children listen at: each with a port, and none that is taken. */

import { once } from "node:events";
import { createServer, type ListenOptions } from "node:net";
import { type Address, type Config, coordinatorMetrics } from "../config.ts";
import { freePort } from "./redis-server.ts";

export const shown = (address: Address): string =>
  address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;

export interface Placed extends Config {
  /** Of each coordinator. */
  coordinatorMetrics: Address[];
}

/** Port 0 means any; a number is chosen here, because the children and the printed address must agree on it. */
export async function withPorts(config: Config): Promise<Placed> {
  const fill = async (address: Address): Promise<Address> => (address.port === 0 ? { ...address, port: await freePort() } : address);
  const { http, grpc } = config;
  const metrics: Address[] = [];
  for (const address of coordinatorMetrics(config)) metrics.push(await fill(address));
  return { ...config, http: await fill(http), ...(grpc && { grpc: await fill(grpc) }), metrics: metrics[0]!, coordinatorMetrics: metrics };
}

export async function refuseTakenPorts({ coordinatorMetrics, coordinators, grpc, http }: Placed): Promise<void> {
  const taken: string[] = [];
  const used = new Set<string>();
  for (const [flag, addresses] of Object.entries({ http: [http], grpc: grpc ? [grpc] : [], metrics: coordinatorMetrics })) {
    for (const address of addresses) {
      const isShared = flag !== "metrics" && coordinators > 1;
      const why = used.has(shown(address)) ? "is another of its addresses" : await cannotListen(address, isShared);
      used.add(shown(address));
      if (why !== undefined) taken.push(`  ${shown(address)} ${why}; choose another address with --${flag}`);
    }
  }
  if (taken.length > 0) throw new Error(`Switchyard cannot listen:\n${taken.join("\n")}`);
}

async function cannotListen({ host, port }: Address, isShared: boolean): Promise<string | undefined> {
  if (port > 65_535) return "has no such port";
  // alone first: to an address that is shared, others of this user might listen already
  const why = await refusalOf({ host, port, exclusive: true });
  return why === undefined && isShared ? refusalOf({ host, port, reusePort: true }) : why;
}

async function refusalOf(options: ListenOptions): Promise<string | undefined> {
  const probe = createServer().listen(options);
  try {
    await once(probe, "listening");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOTSUP") return "cannot be shared by coordinators on this system (start without --coordinators)";
    return code === "EADDRINUSE" ? "is taken by another process" : code === "EACCES" ? "needs a privilege" : `does not work (${message})`;
  }
  probe.close();
  await once(probe, "close");
  return undefined;
}
