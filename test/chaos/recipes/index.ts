/** All recipes, in the order of their numbers. */

import type { Recipe } from "../recipe.ts";
import { killedHosts } from "./r01-killed-hosts.ts";
import { frozenHost } from "./r02-frozen-host.ts";
import { killedRedis } from "./r10-killed-redis.ts";
import { frozenRedis } from "./r13-frozen-redis.ts";
import { lostReplies } from "./r16-lost-replies.ts";
import { killedCoordinator } from "./r21-killed-coordinator.ts";
import { crashPoints } from "./r24-crash-points.ts";

export const recipes: readonly Recipe[] = [killedHosts, frozenHost, killedRedis, frozenRedis, lostReplies, killedCoordinator, crashPoints];
