import { after } from "node:test";
import { startTestRedis } from "./redis.ts";
import { RedisRigs } from "./redis-rig.ts";

/** Rigs on a server of their own, which ends with the tests of the file. */
export async function redisRigs(): Promise<RedisRigs> {
  const server = await startTestRedis();
  let rigs: RedisRigs | undefined;
  after(async () => {
    await rigs?.close();
    await server.stop();
  });
  rigs = await RedisRigs.open(server.url);
  return rigs;
}
