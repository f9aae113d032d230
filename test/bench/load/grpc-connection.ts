/** gRPC over HTTP/2, its frames written by hand. Reads no header: an answer is good when a message came. */

import { Connection, PlainSocket } from "./connection.ts";

const frameHeadBytes = 9;
const mostFrameBytes = 16_384;
/** What fits the server's first window, which is not watched. */
const mostRequestBytes = 32_768;
const openWindow = 2 ** 31 - 1;
const firstWindow = 65_535;

const kinds = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goAway: 7, window: 8 } as const;
const ack = 1;
const endStream = 1;
const endHeaders = 4;

function frame(kind: number, flags: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = kind;
  head[4] = flags;
  return Buffer.concat([head, payload]);
}

/** A header that no table remembers, with a name of its own. */
function header(name: string, value: string): Buffer {
  if (name.length > 126 || value.length > 126) throw new Error(`${name}: too long to be written by hand`);
  return Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);
}

/** A whole call of ModelInfer, ready to be written but for the number of its stream. */
export function grpcRequest(of: { message: Uint8Array; apiKey?: string | undefined }): Buffer {
  const headers = [
    header(":method", "POST"),
    header(":scheme", "http"),
    header(":path", "/inference.GRPCInferenceService/ModelInfer"),
    header(":authority", "127.0.0.1"),
    header("te", "trailers"),
    header("content-type", "application/grpc"),
    ...(of.apiKey === undefined ? [] : [header("authorization", `Bearer ${of.apiKey}`)]),
  ];
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(of.message.length, 1);
  const body = Buffer.concat([prefix, of.message]);
  const frames = [frame(kinds.headers, endHeaders, Buffer.concat(headers))];
  for (let at = 0; at < body.length; at += mostFrameBytes) {
    const isLast = at + mostFrameBytes >= body.length;
    frames.push(frame(kinds.data, isLast ? endStream : 0, body.subarray(at, at + mostFrameBytes)));
  }
  return Buffer.concat(frames);
}

function opening(): Buffer {
  const settings = Buffer.alloc(6);
  settings.writeUInt16BE(4, 0); // SETTINGS_INITIAL_WINDOW_SIZE
  settings.writeUInt32BE(openWindow, 2);
  const window = Buffer.alloc(4);
  window.writeUInt32BE(openWindow - firstWindow);
  return Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(kinds.settings, 0, settings),
    frame(kinds.window, 0, window),
  ]);
}

export class GrpcConnection extends Connection {
  #stream = 1;
  #parts: Buffer[] = [];

  static async open(host: string, port: number): Promise<GrpcConnection> {
    const connection = new GrpcConnection(await PlainSocket.open(host, port));
    connection.write(opening());
    return connection;
  }

  override send(...[request, waiting]: Parameters<Connection["send"]>): void {
    if (request.length > mostRequestBytes) throw new Error(`a request of ${request.length} bytes is more than the server's first window`);
    const numbered = Buffer.from(request);
    for (let at = 0; at < numbered.length; at += frameHeadBytes + numbered.readUIntBE(at, 3)) numbered.writeUInt32BE(this.#stream, at + 5);
    this.#stream += 2;
    this.#parts = [];
    super.send(numbered, waiting);
  }

  protected override take(bytes: Buffer): number {
    let at = 0;
    while (bytes.length - at >= frameHeadBytes) {
      const end = at + frameHeadBytes + bytes.readUIntBE(at, 3);
      if (end > bytes.length) break;
      this.#frame(bytes[at + 3]!, bytes[at + 4]!, bytes.subarray(at + frameHeadBytes, end));
      at = end;
    }
    return at;
  }

  #frame(kind: number, flags: number, payload: Buffer): void {
    if (kind === kinds.settings && (flags & ack) === 0) this.write(frame(kinds.settings, ack, new Uint8Array(0)));
    else if (kind === kinds.ping && (flags & ack) === 0) this.write(frame(kinds.ping, ack, payload));
    else if (kind === kinds.reset || kind === kinds.goAway) this.fail(new Error("the server ended the call"));
    else if (kind === kinds.data) this.#parts.push(Buffer.from(payload));
    if ((kind === kinds.data || kind === kinds.headers) && (flags & endStream) !== 0) this.#ended();
  }

  #ended(): void {
    const message = Buffer.concat(this.#parts);
    const isGood = message.length >= 5;
    this.answer({
      wire: "grpc",
      status: isGood ? 200 : 500,
      headerLength: 0,
      errorCode: undefined,
      body: isGood ? message.subarray(5) : Buffer.from("a status without a message"),
    });
  }
}
