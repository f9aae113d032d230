/** Dark or light: as the system has it, until somebody chooses. */

import { computed, effect, signal } from "@preact/signals";
import { keptSignal } from "./live.ts";

const wish = keptSignal("switchyard-theme", "system");
const query = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(query.matches);
query.addEventListener("change", ({ matches }) => {
  systemDark.value = matches;
});

export const theme = computed(() => (wish.value === "system" ? (systemDark.value ? "dark" : "light") : wish.value));

export function otherTheme(): void {
  wish.value = theme.value === "dark" ? "light" : "dark";
}

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});
