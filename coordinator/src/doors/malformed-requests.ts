/** What HTTP itself refuses, before there is a request that a route could answer: said on the bare socket, in the form of all other failures. */

import { type ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { SwitchyardError } from "@switchyard/protocol";
import { toProblem } from "./problem.ts";

const tooLate = { status: 408, detail: "The request did not come in time", retryable: true };
const tooLong = { status: 431, detail: "The request's line and headers are too long", retryable: false };
const malformed = { status: 400, detail: "This is no request of HTTP/1.1", retryable: false };

/** For a server's event `clientError`. `newId` makes the id that the answer bears. */
export function refuseMalformed(newId: () => string): (error: NodeJS.ErrnoException, socket: Socket) => void {
  return (error, socket) => {
    if (error.code === "ECONNRESET" || socket.destroyed) return;
    if (socket.writable && !isAnswering(socket)) socket.write(answerTo(error, newId()));
    socket.destroy(error);
  };
}

/** Whether a request that came whole is still to be answered, or its answer has begun: whoever reads this would take it for that answer, or a part of it. Node looks at the same member. */
function isAnswering(socket: Socket): boolean {
  const earlier = (socket as { _httpMessage?: ServerResponse | null })._httpMessage;
  return earlier?.headersSent === true || earlier?.req.complete === true;
}

function answerTo({ code }: NodeJS.ErrnoException, id: string): string {
  const { detail, retryable, status } =
    code === "ERR_HTTP_REQUEST_TIMEOUT" ? tooLate : code === "HPE_HEADER_OVERFLOW" ? tooLong : malformed;
  // nobody knows which path was asked for
  const { instance: _unknown, ...problem } = toProblem(new SwitchyardError("invalid_request", detail), { instance: "", traceId: id });
  const body = JSON.stringify({ ...problem, status, retryable });
  const headers = {
    "content-type": "application/problem+json",
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-request-id": id,
    connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("\r\n")}\r\n\r\n${body}`;
}
