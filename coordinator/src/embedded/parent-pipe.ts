/**
 * How a child learns that the process which started it is gone, even by SIGKILL: it holds one end of a pipe whose other end dies with
 * the parent. SWITCHYARD_PARENT_PIPE names the descriptor; without it there is no parent to watch.
 */

import { Socket } from "node:net";

/** Calls `gone` once when the parent's end closes. Keeps no process alive. */
export function watchParent(env: Readonly<Record<string, string | undefined>>, gone: () => void): void {
  const descriptor = env.SWITCHYARD_PARENT_PIPE;
  if (descriptor === undefined || !/^\d+$/.test(descriptor)) return;
  const pipe = new Socket({ fd: Number(descriptor), readable: true, writable: false });
  pipe.on("error", () => {});
  pipe.once("close", gone);
  pipe.resume();
  pipe.unref();
}
