/**
 * The memory that a process may count on: the machine's, or what its container may use where that is less. `limitBytes`: as Node tells it
 * (`process.constrainedMemory()`), 0 where there is no limit, and more than the machine has where it is not known.
 */
export function memoryBytesOf({ limitBytes, machineBytes }: { limitBytes: number; machineBytes: number }): number {
  return limitBytes > 0 ? Math.min(limitBytes, machineBytes) : machineBytes;
}
