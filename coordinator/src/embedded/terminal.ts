/** What `up` says to a person: on a terminal one moving line while it waits, elsewhere plain lines, each once. */

import type { Clock } from "../clock.ts";

export interface Terminal {
  /** A lasting line. */
  say(line: string): void;
  /** What is being waited for now; undefined ends the waiting. */
  wait(what: string | undefined): void;
}

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

export function createTerminal(stream: NodeJS.WriteStream, clock: Clock): Terminal {
  stream.on("error", () => {}); // a closed terminal stops nothing
  const moves = stream.isTTY === true;
  let waiting: string | undefined;
  let frame = 0;
  let drawing = false;
  const erase = (): void => {
    if (moves && waiting !== undefined) stream.write("\r\u001b[K");
  };
  const draw = (): void => {
    if (moves && waiting !== undefined) stream.write(`\r\u001b[K${frames[frame % frames.length]} ${waiting}`);
  };
  const spin = async (): Promise<void> => {
    drawing = true;
    while (waiting !== undefined) {
      draw();
      frame++;
      await clock.sleep(100);
    }
    drawing = false;
  };
  return {
    say(line) {
      erase();
      stream.write(`${line}\n`);
      draw();
    },
    wait(what) {
      if (what === waiting) return;
      erase();
      waiting = what;
      if (what !== undefined && !moves) stream.write(`${what}\n`);
      if (what !== undefined && moves && !drawing) void spin();
    },
  };
}
