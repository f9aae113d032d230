/**
 * Coordinators that share an address, one by one: each listens on a Unix socket, too, named by itself in a folder of their user's. So nobody
 * else is ever asked in a coordinator's place: not another machine's, and not who came to a port after it.
 */

import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import path from "node:path";
import { newIncarnation } from "@switchyard/protocol/redis";

/** Of a Unix socket on Linux, in bytes. */
const mostPathBytes = 107;
const coordinatorName = /^[a-z2-7]{26}$/;

export class SiblingDoors {
  /** This process, as no other is called. */
  readonly me: string;
  readonly #folder: string;

  /** `data`: the data folder of all that share the address. */
  constructor(data: string, me: string) {
    this.#folder = path.join(data, "doors");
    this.me = me;
  }

  /** What is wrong with a data folder in which they would find each other. */
  static mistake(data: string): string | undefined {
    const file = new SiblingDoors(data, newIncarnation()).#file(newIncarnation());
    if (Buffer.byteLength(file) <= mostPathBytes) return undefined;
    return `${file} is too long for the path of a Unix socket (${mostPathBytes} bytes), which coordinators that share an address need; choose a shorter --data`;
  }

  /** Makes the folder, and answers where this one listens. Sockets that killed ones left go. Throws a plain Error that says what to do. */
  async prepare(): Promise<string> {
    const mistake = SiblingDoors.mistake(path.dirname(this.#folder));
    if (mistake !== undefined) throw new Error(mistake);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    chmodSync(this.#folder, 0o700);
    const left = readdirSync(this.#folder).filter((name) => coordinatorName.test(name));
    for (const file of left.map((name) => this.#file(name))) if (!(await isHeard(file))) rmSync(file, { force: true });
    return this.#file(this.me);
  }

  /** Where that one listens, if it does: as seen from here where that is shorter. Undefined where none is called so. */
  of(coordinator: string): string | undefined {
    return coordinatorName.test(coordinator) ? this.#file(coordinator) : undefined;
  }

  #file(coordinator: string): string {
    const file = path.join(this.#folder, coordinator);
    const seenFromHere = path.relative(process.cwd(), file);
    return seenFromHere.length < file.length ? seenFromHere : file;
  }
}

async function isHeard(file: string): Promise<boolean> {
  const socket = connect(file);
  try {
    await once(socket, "connect");
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ECONNREFUSED";
  } finally {
    socket.destroy();
  }
}
