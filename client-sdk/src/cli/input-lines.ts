/** Lines of a stream of bytes. Each is joined once, in however many pieces it came, so that a line of many megabytes costs no more than its size. */

const lineFeed = 0x0a;

/** Answers each line without its end; undefined for one that was longer than `mostBytes`, of which nothing was kept. Empty lines are left out. */
export async function* inputLines(
  input: AsyncIterable<Uint8Array>,
  limits: { mostBytes: number },
): AsyncGenerator<string | undefined, void, undefined> {
  let pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  const add = (piece: Uint8Array): void => {
    sizeBytes += piece.length;
    if (sizeBytes > limits.mostBytes) pieces = [];
    else pieces.push(piece);
  };
  const take = (): string | undefined => {
    const line = sizeBytes > limits.mostBytes ? undefined : Buffer.concat(pieces).toString("utf8").replace(/\r$/, "");
    pieces = [];
    sizeBytes = 0;
    return line;
  };
  for await (const chunk of input) {
    let from = 0;
    for (let end = chunk.indexOf(lineFeed); end !== -1; end = chunk.indexOf(lineFeed, from)) {
      add(chunk.subarray(from, end));
      from = end + 1;
      const line = take();
      if (line !== "") yield line;
    }
    if (from < chunk.length) add(chunk.subarray(from));
  }
  const rest = take();
  if (rest !== "") yield rest;
}
