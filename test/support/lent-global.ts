/** What only browsers have, for modules of the console: other tests of the same process must not find it. */

/** Sets the global; what is returned puts back what was there. */
export function lendGlobal(name: string, value: unknown): () => void {
  const had = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  return () => {
    if (had) Object.defineProperty(globalThis, name, had);
    else Reflect.deleteProperty(globalThis, name);
  };
}
