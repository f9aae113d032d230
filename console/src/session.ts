/** Who uses this console, as the server says, and what that key may do. Buttons that it may not press are not shown. */

import { computed, effect, signal } from "@preact/signals";
import type { CallerView } from "@switchyard/protocol";
import { Away, apiKey, ask, Refusal } from "./api.ts";
import { after } from "./clock.ts";

type Scope = "submit" | "read" | "operate" | "admin";

export const caller = signal<CallerView | undefined>(undefined);
/** Why there is no caller: a key is asked for, or the one given is not good. */
export const keyFault = signal<string | undefined>(undefined);

export function may(...anyOf: Scope[]): boolean {
  const { value } = caller;
  return value !== undefined && anyOf.some((scope) => value.scopes.includes(scope));
}

export const isReadOnly = computed(() => caller.value !== undefined && !may("submit", "operate", "admin"));

/** Asks the server who the key is, and whether it is still good. */
export async function look(): Promise<void> {
  try {
    caller.value = await ask<CallerView>("/v1/caller");
    keyFault.value = undefined;
  } catch (error) {
    caller.value = undefined;
    if (error instanceof Refusal) keyFault.value = error.message;
    else if (error instanceof Away) after(1_000, () => void look());
    else throw error;
  }
}

/** Asks again with each key. */
export function follow(): void {
  effect(() => {
    void apiKey.value;
    void look();
  });
}
