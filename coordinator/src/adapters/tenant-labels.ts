/**
 * Which tenants have series of their own: the first that this process saw, the rest share one label. A tenant never changes its label while the
 * process lives, or its counters would jump.
 */

const mostNamed = 50;
const others = "other";

export class TenantLabels {
  readonly #named = new Set<string>();

  labelOf(tenant: string): string {
    if (this.#named.has(tenant)) return tenant;
    if (this.#named.size >= mostNamed) return others;
    this.#named.add(tenant);
    return tenant;
  }

  named(): string[] {
    return [...this.#named];
  }
}
