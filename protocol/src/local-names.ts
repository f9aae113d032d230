/**
 * Names by which only this machine is meant, or somebody near. A page that lets a name of its own point to a loopback address (DNS rebinding) is
 * of one origin with the server there, and is told apart by the name that its browser sends. Pure.
 */

/** Of an address to listen on. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host === "[::1]" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

/** Of a Host header, with or without a port: an address, which cannot be rebound, or a name that no public server answers for. */
export function isLocalName(hostHeader: string): boolean {
  const name = hostHeader.toLowerCase().replace(/:\d*$/, "").replace(/\.$/, "");
  return name.startsWith("[") || /^\d{1,3}(\.\d{1,3}){3}$/.test(name) || !name.includes(".") || name.endsWith(".localhost");
}
