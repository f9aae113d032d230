/** Sessions of the Model Context Protocol's earlier revisions, as a client without a library has them. */

import assert from "node:assert/strict";

export const legacyHeaders = { accept: "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25" };

type Door = { url: string };
type Headers = Record<string, string>;

export function postMessage({ url }: Door, message: object, headers: Headers = {}, signal?: AbortSignal): Promise<Response> {
  return fetch(`${url}/mcp`, {
    method: "POST",
    headers: { ...legacyHeaders, "content-type": "application/json", ...headers },
    body: JSON.stringify({ jsonrpc: "2.0", ...message }),
    ...(signal && { signal }),
  });
}

export function initialize(door: Door, headers: Headers = {}): Promise<Response> {
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1" } };
  return postMessage(door, { id: "initialize", method: "initialize", params }, headers);
}

/** The given headers, and the one that names the new session. */
export async function openSession(door: Door, headers: Headers = {}): Promise<Headers> {
  const response = await initialize(door, headers);
  await response.text();
  assert.equal(response.status, 200);
  return { ...headers, "mcp-session-id": response.headers.get("mcp-session-id")! };
}

/** Reads on until an event has named itself, and answers its id: from there on a broken stream is taken up. */
export async function firstEventId(stream: Response): Promise<string> {
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  while (!/^id: \S+\n/m.test(begun)) begun += (await reader.read()).value;
  return /^id: (\S+)$/m.exec(begun)![1]!;
}
