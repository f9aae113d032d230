/** Where coordinators that share an address can be asked one by one. */

export interface CoordinatorDoors {
  /** This process, as no other is called. */
  readonly me: string;
  /** Says where this one can be asked, for the next seconds; throws `store_unavailable`. */
  announce(place: { host: string; port: number }): Promise<void>;
  /** Undefined when it has gone, or does not say; throws `store_unavailable`. */
  placeOf(coordinator: string): Promise<{ host: string; port: number } | undefined>;
}
