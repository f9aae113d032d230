/** All recipes, in the order of their numbers. */

import type { Recipe } from "../recipe.ts";
import { killedHosts } from "./r01-killed-hosts.ts";
import { frozenHost } from "./r02-frozen-host.ts";
import { blockedLoop } from "./r03-blocked-loop.ts";
import { poison } from "./r04-poison.ts";
import { allHostsDown } from "./r05-all-hosts-down.ts";
import { cutHost } from "./r06-cut-host.ts";
import { mixedVersions } from "./r07-mixed-versions.ts";
import { churn } from "./r08-churn.ts";
import { killedConnections } from "./r09-killed-connections.ts";
import { killedRedis } from "./r10-killed-redis.ts";
import { durable } from "./r11-durable.ts";
import { lostPower } from "./r12-lost-power.ts";
import { frozenRedis } from "./r13-frozen-redis.ts";
import { failover } from "./r14-failover.ts";
import { deadSockets } from "./r15-dead-sockets.ts";
import { lostReplies } from "./r16-lost-replies.ts";
import { fullStore } from "./r17-full-store.ts";
import { flushedScripts } from "./r18-flushed-scripts.ts";
import { latency } from "./r19-latency.ts";
import { sizes } from "./r20-sizes.ts";
import { killedCoordinator } from "./r21-killed-coordinator.ts";
import { rollingCoordinators } from "./r22-rolling-coordinators.ts";
import { rollingHosts } from "./r23-rolling-hosts.ts";
import { crashPoints } from "./r24-crash-points.ts";
import { manySweepers } from "./r25-many-sweepers.ts";
import { partitions } from "./r26-partitions.ts";
import { wrongClocks } from "./r27-wrong-clocks.ts";
import { keyRaces } from "./r31-key-races.ts";
import { cancelRaces } from "./r32-cancel-races.ts";
import { shortDeadlines } from "./r33-short-deadlines.ts";
import { noisyNeighbour } from "./r35-noisy-neighbour.ts";
import { classes } from "./r36-classes.ts";
import { badItem } from "./r37-bad-item.ts";
import { growth } from "./r40-growth.ts";
import { handedJobs } from "./r41-handed-jobs.ts";

export const recipes: readonly Recipe[] = [
  killedHosts,
  frozenHost,
  blockedLoop,
  poison,
  allHostsDown,
  cutHost,
  mixedVersions,
  churn,
  killedConnections,
  killedRedis,
  durable,
  lostPower,
  frozenRedis,
  failover,
  deadSockets,
  lostReplies,
  fullStore,
  flushedScripts,
  latency,
  sizes,
  killedCoordinator,
  rollingCoordinators,
  rollingHosts,
  crashPoints,
  manySweepers,
  partitions,
  wrongClocks,
  keyRaces,
  cancelRaces,
  shortDeadlines,
  noisyNeighbour,
  classes,
  badItem,
  growth,
  handedJobs,
];
