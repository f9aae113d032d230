/** What is said of a session that is not known. */

/** As the protocol's library has it. */
const sessionNotFound = -32_001;

export const unknownSession = {
  jsonrpc: "2.0",
  id: null,
  error: { code: sessionNotFound, message: "There is no such session here: begin a new one with initialize" },
} as const;
