/** Ports for servers that go away and come back. Below those that the system gives out: else somebody's connection has taken it meanwhile. */

import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

const [lowest, highest] = [12_000, 32_000];

/** One that nobody listens on. */
export async function fixedPort(): Promise<number> {
  for (;;) {
    const port = randomInt(lowest, highest);
    const server = createServer();
    const isFree = new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!(await isFree)) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
