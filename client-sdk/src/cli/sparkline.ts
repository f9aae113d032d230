/** A row of figures as a line of blocks, the largest at full height. Pure. */

const blocks = "▁▂▃▄▅▆▇█";

/** The last `width` values; a smaller number of them is padded on the left. Zero is the lowest block, also when all are. */
export function sparkline(values: readonly number[], width: number): string {
  const shown = values.slice(-width);
  const most = Math.max(...shown, 0);
  const line = shown.map((value) => blocks[most > 0 ? Math.min(blocks.length - 1, Math.round((value / most) * (blocks.length - 1))) : 0]);
  return line.join("").padStart(width);
}

/** A bar of `width` cells of which those from `from` to `to` (shares of the whole, 0 to 1) are full: at least one. */
export function barOf(width: number, { from, to }: { from: number; to: number }): string {
  const share = (value: number): number => Math.min(1, Math.max(0, value));
  const start = Math.min(width - 1, Math.floor(share(from) * width));
  const end = Math.max(start + 1, Math.round(share(to) * width));
  return "░".repeat(start) + "█".repeat(end - start) + "░".repeat(width - end);
}
