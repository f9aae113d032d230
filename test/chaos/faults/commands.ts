/**
 * Finds the commands in what a client sends to Redis: arrays of bulk strings, in any pieces. Only the first words of each are kept, since
 * tensors pass here too. Client libraries read replies, and export nothing that reads requests.
 */

const carriage = 13;
const keptWords = 5;
const keptBytes = 128;

export interface SeenCommand {
  /** The first words, as text. */
  words: string[];
  /** Where it ends in the bytes given to `feed`, exclusive. */
  end: number;
}

export class CommandReader {
  /** Words that the command still has; 0 between commands. */
  #left = 0;
  /** Bytes that the current word still has, with its line end; undefined while a length is read. */
  #wordLeft: number | undefined;
  #word: Buffer[] = [];
  #wordKept = 0;
  #words: string[] = [];
  #line = "";

  /** The commands that end within these bytes. */
  feed(bytes: Buffer): SeenCommand[] {
    const seen: SeenCommand[] = [];
    let at = 0;
    while (at < bytes.length) {
      if (this.#wordLeft !== undefined) {
        at = this.#takeWord(bytes, at);
        if (this.#wordLeft !== undefined || this.#left > 0) continue;
        seen.push({ words: this.#words, end: at });
        this.#words = [];
        continue;
      }
      const byte = bytes[at++]!;
      if (byte === carriage) continue;
      if (byte !== 10) {
        this.#line += String.fromCharCode(byte);
        continue;
      }
      const count = Number(this.#line.slice(1));
      if (this.#line.startsWith("*")) this.#left = count;
      else if (this.#line.startsWith("$")) this.#wordLeft = count + 2;
      else throw new Error(`expected the head of a Redis command, got ${JSON.stringify(this.#line.slice(0, 80))}`);
      this.#line = "";
    }
    return seen;
  }

  #takeWord(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#wordLeft!);
    if (this.#words.length < keptWords && this.#wordKept < keptBytes) {
      this.#word.push(bytes.subarray(at, end));
      this.#wordKept += end - at;
    }
    this.#wordLeft! -= end - at;
    if (this.#wordLeft === 0) {
      if (this.#words.length < keptWords)
        this.#words.push(Buffer.concat(this.#word).toString("latin1").slice(0, keptBytes).replace(/\r\n$/, ""));
      this.#word = [];
      this.#wordKept = 0;
      this.#wordLeft = undefined;
      this.#left--;
    }
    return end;
  }
}
