/**
 * A Map for entries that come and go by the thousand each second, as jobs in flight do. V8 gives a Map a new table whenever its deleted entries fill
 * the old one, and lets the old point at the new. Once the collector has moved one table among the old objects, that dead table keeps its successor
 * alive, which moves too, and so on: each holds what its entries held, and whole collections follow one another.
 */

/** So many deletions at least lie between two replacements, so that they cost nothing beside the entries themselves. */
const leastDeleted = 1_024;

/** Holds entries in the order in which they came, as Map does. */
export class PassingMap<Key, Value> {
  #map = new Map<Key, Value>();
  #deleted = 0;

  get size(): number {
    return this.#map.size;
  }

  get(key: Key): Value | undefined {
    return this.#map.get(key);
  }

  has(key: Key): boolean {
    return this.#map.has(key);
  }

  set(key: Key, value: Value): void {
    this.#map.set(key, value);
  }

  delete(key: Key): boolean {
    const wasThere = this.#map.delete(key);
    if (wasThere && ++this.#deleted >= leastDeleted && this.#deleted >= this.#map.size) {
      this.#map = new Map(this.#map); // the old one's last table points at nothing
      this.#deleted = 0;
    }
    return wasThere;
  }

  keys(): Key[] {
    return [...this.#map.keys()];
  }

  values(): Value[] {
    return [...this.#map.values()];
  }

  /** Live, as of a Map: entries that are deleted on the way are passed over. Who adds on the way must copy first. */
  [Symbol.iterator](): MapIterator<[Key, Value]> {
    return this.#map[Symbol.iterator]();
  }
}
