/** A screen that is drawn again and again on a terminal, and left as it was found, also by Ctrl-C. */

const enter = "\x1b[?1049h\x1b[?25l";
const leave = "\x1b[?25h\x1b[?1049l";

export interface LiveScreen {
  /** Aborts when the user ends it: Ctrl-C or q. */
  readonly signal: AbortSignal;
  /** Draws the lines that fit, over those before. */
  draw(text: string): void;
  close(): void;
}

export function openScreen(out: NodeJS.WriteStream, input: NodeJS.ReadStream): LiveScreen {
  const ended = new AbortController();
  const end = (): void => ended.abort();
  const onKey = (key: Buffer): void => {
    if (["q", "Q", "\x03", "\x04"].includes(key.toString())) end();
  };
  const hasKeys = input.isTTY === true;
  if (hasKeys) input.setRawMode(true).on("data", onKey).resume();
  process.on("SIGINT", end).on("SIGTERM", end);
  out.write(enter);
  return {
    signal: ended.signal,
    draw(text) {
      // a terminal that does not say how large it is says 0
      const [columns, rows] = [out.columns || 80, out.rows || 24];
      const lines = text.split("\n").slice(0, rows - 1);
      out.write(`\x1b[H${lines.map((line) => `${Array.from(line).slice(0, columns).join("")}\x1b[K\n`).join("")}\x1b[J`);
    },
    close() {
      process.off("SIGINT", end).off("SIGTERM", end);
      if (hasKeys) input.off("data", onKey).setRawMode(false).pause();
      out.write(leave);
    },
  };
}
