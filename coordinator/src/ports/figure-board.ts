/** Where coordinators leave what each has counted in a slot of time, for whichever of them is asked. Throws `store_unavailable`. */

export interface FigureBoard {
  /** Of this coordinator; repeated, it takes the place of what was there. Gone by itself when nobody asks for such a slot any more. */
  leave(slot: number, text: string): Promise<void>;
  /** What all coordinators left, slot by slot in the order asked for. */
  read(slots: readonly number[]): Promise<string[][]>;
}
