/**
 * Coordinators that share an address, one by one: each listens on a Unix socket, too, named by itself in a folder of their user's. So nobody
 * else is ever asked in a coordinator's place: not another machine's, and not who came to a port after it.
 */

import { chmodSync, mkdirSync } from "node:fs";
import path from "node:path";

/** Of a Unix socket on Linux, in bytes. */
const mostPathBytes = 107;

/** Of the coordinators whose data folder this is. */
export const siblingsFolder = (data: string): string => path.join(data, "doors");

export class SiblingDoors {
  /** This process, as no other is called. */
  readonly me: string;
  readonly #folder: string;

  /** `folder`: of all that share the address. */
  constructor(folder: string, me: string) {
    this.#folder = folder;
    this.me = me;
  }

  /** Makes the folder; answers this one's socket. Throws a plain Error that says what to do. */
  own(): string {
    const file = this.of(this.me);
    if (Buffer.byteLength(file) > mostPathBytes)
      throw new Error(`${file} is too long for the path of a Unix socket (${mostPathBytes} bytes); choose a shorter --data`);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    chmodSync(this.#folder, 0o700);
    return file;
  }

  /** Where that one listens, if it does: as seen from here where that is shorter. */
  of(coordinator: string): string {
    const file = path.join(this.#folder, coordinator);
    const seenFromHere = path.relative(process.cwd(), file);
    return seenFromHere.length < file.length ? seenFromHere : file;
  }
}
