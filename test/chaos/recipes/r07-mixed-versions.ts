/** R7: two releases side by side. There is one so far. */

import type { Recipe } from "../recipe.ts";

export const mixedVersions: Recipe = {
  id: "R7",
  title: "coordinators and hosts of two releases",
  tiers: ["nightly", "soak"],
  skip: "no release is tagged yet, so there is no other to run beside this one",
  run: () => Promise.reject(new Error("R7 needs a tagged release")),
};
