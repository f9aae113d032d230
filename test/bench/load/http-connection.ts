/** HTTP/1.1, keep-alive. Understands answers with Content-Length only, which is what all measured systems send. */

import { Connection, openSocket } from "./connection.ts";

export class HttpConnection extends Connection {
  static async open(host: string, port: number): Promise<HttpConnection> {
    return new HttpConnection(await openSocket(host, port));
  }

  protected override take(bytes: Buffer): number {
    const headEnd = bytes.indexOf("\r\n\r\n");
    if (headEnd === -1) return 0;
    const head = bytes.toString("latin1", 0, headEnd + 2).toLowerCase();
    const length = numberAfter(head, "\r\ncontent-length:");
    if (length === undefined) {
      this.fail(new Error(`an answer without Content-Length: ${head}`));
      return bytes.length;
    }
    if (bytes.length < headEnd + 4 + length) return 0;
    const headerLength = numberAfter(head, "\r\ninference-header-content-length:") ?? 0;
    const status = Number(head.slice(9, 12));
    const errorCode = status === 200 ? undefined : /\r\nx-switchyard-error: *(\S+)/.exec(head)?.[1];
    this.answer({ wire: "http", status, headerLength, errorCode, body: bytes.subarray(headEnd + 4) });
    return bytes.length;
  }
}

function numberAfter(head: string, name: string): number | undefined {
  const at = head.indexOf(name);
  return at === -1 ? undefined : Number.parseInt(head.slice(at + name.length, at + name.length + 20).trim(), 10);
}
