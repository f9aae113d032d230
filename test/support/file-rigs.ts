import { after } from "node:test";
import { startTestRedis } from "./redis.ts";
import { RedisRigs } from "./redis-rig.ts";

/** Rigs on a server of their own, which ends with the tests of the file. */
export async function redisRigs(): Promise<RedisRigs> {
  const server = await startTestRedis();
  const rigs = await RedisRigs.open(server.url);
  after(async () => {
    await rigs.close();
    await server.stop();
  });
  return rigs;
}
