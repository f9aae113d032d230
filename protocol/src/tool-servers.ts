/** Words for the Model Context Protocol servers whose tools this cluster uses. */

/**
 * `idle`: nothing was tried yet, or it is disabled. `degraded`: it was lost or cannot be reached, and is tried again. `closed`: it is not
 * configured any more.
 */
export const toolServerStates = ["idle", "connecting", "ready", "degraded", "closed"] as const;
export type ToolServerState = (typeof toolServerStates)[number];

export const toolTransports = ["stdio", "http", "sse"] as const;
export type ToolTransport = (typeof toolTransports)[number];

/** The two generations of the protocol: 2026-07-28 and later, and those with sessions before it. */
export const protocolEras = ["modern", "legacy"] as const;
export type ProtocolEra = (typeof protocolEras)[number];

/** `ask`: a call is refused until somebody consents. */
export const toolDecisions = ["allow", "ask", "deny"] as const;
export type ToolDecision = (typeof toolDecisions)[number];
