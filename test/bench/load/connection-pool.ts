/** Connections of an open load: an idle one is used again, another is opened when none is idle, and there is a bound to how many. */

import type { Answer } from "./connection.ts";
import { HttpConnection } from "./http-connection.ts";

export class ConnectionPool {
  readonly #address: { host: string; port: number };
  readonly #most: number;
  readonly #idle: HttpConnection[] = [];
  #busy = 0;

  constructor(address: { host: string; port: number }, most: number) {
    this.#address = address;
    this.#most = most;
  }

  get isFull(): boolean {
    return this.#busy >= this.#most;
  }

  /** So that connecting is no part of the first requests' time. */
  async open(count: number): Promise<void> {
    const { host, port } = this.#address;
    this.#idle.push(...(await Promise.all(Array.from({ length: count }, () => HttpConnection.open(host, port)))));
  }

  async ask(request: Buffer): Promise<Answer> {
    this.#busy++;
    try {
      let connection = this.#idle.pop();
      while (connection !== undefined && !connection.isOpen) connection = this.#idle.pop();
      connection ??= await HttpConnection.open(this.#address.host, this.#address.port);
      const answer = await connection.ask(request);
      this.#idle.push(connection);
      return answer;
    } finally {
      this.#busy--;
    }
  }

  close(): void {
    for (const connection of this.#idle) connection.close();
  }
}
