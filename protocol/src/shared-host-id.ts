/** Whether two hosts live at once under one id, by what the store noted of their beats; ask it of hosts with one id only. */

export interface SeenHost {
  /** Not declared lost. */
  lives: boolean;
  draining: boolean;
  /** Of its first beat and of its last, by the store's clock. */
  registeredMs: number;
  beatMs: number;
}

/** A host that is started in the place of another does not meet it that long, as presence would have lost a silent one by then. */
const besideMs = 3_000;

/**
 * One that died and was started anew is no such pair: the dead one beats no more. Neither is one that ends while its successor runs already: it
 * drains, and the other does not. Both drain where the id was asked to.
 */
export function shareTheirId(one: SeenHost, other: SeenHost): boolean {
  const areBoth = one.lives && other.lives && one.draining === other.draining;
  return areBoth && Math.min(one.beatMs, other.beatMs) - Math.max(one.registeredMs, other.registeredMs) > besideMs;
}
