/** A process that fetches one version's files, to be killed on the way: what to fetch comes as JSON in its argument. */

import { systemClock } from "../../worker/src/clock.ts";
import { HttpBlobs } from "../../worker/src/runner/http-blobs.ts";
import { FetchedModels } from "../../worker/src/runtime/fetched-models.ts";

const { folder, hostId, url, version } = JSON.parse(process.argv[2]!);
const blobs = new HttpBlobs(url, async () => null);
const source = { fetch: blobs.download.bind(blobs) };
await new FetchedModels({ folder, hostId, maxBytes: 1e12, source, clock: systemClock }).folderOf(version);
