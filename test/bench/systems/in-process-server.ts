/** Entry of "in-process, no queue": door and model in one process, one run per request. */

import { openSession } from "./direct-session.ts";
import { openDoor } from "./oip-door.ts";
import { tellReady } from "./program.ts";

const [path, threads] = process.argv.slice(2);
const session = await openSession(path!, Number(threads));
const port = await openDoor(async (input) => {
  const { data, dims } = await session.run(input.bytes, input.shape);
  return { bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), shape: dims };
});
tellReady({ port });
