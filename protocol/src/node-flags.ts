/**
 * Flags with which Node runs coordinators and workers, wherever they are started.
 *
 * Bodies and tensors are memory outside V8's heap, and V8 counts them against a limit that it derives from a heap of 30 MB: it collected all of it for every
 * nine bodies of 600 kB, which was two thirds of the coordinator's work under such load. What that puts off at a start is collected on request (garbage.ts).
 *
 * Node's own code in large pages is found by the processor without a walk through page tables at every other call: a small job takes 3 of 50 µs less in the coordinator.
 * It costs 10 MB of memory, and where the system does not offer such pages nothing happens.
 */
export const serverNodeFlags: readonly string[] = [
  "--enable-source-maps",
  "--initial-old-space-size=128",
  "--expose-gc",
  "--use-largepages=silent",
];
