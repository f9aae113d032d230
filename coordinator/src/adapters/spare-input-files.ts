/**
 * Files of jobs that are over, to be written again for the next: to make a file, to find memory for it and to remove it takes twice as long as to write over one
 * (docs/decisions/0019-input-files-written-again.md). Each keeps its name until then, so that whoever finds it as left behind may remove it.
 */

/** As much as stays of what is over; see local-input-files.ts. */
const mostBytes = 64 * 1024 * 1024;
/** Under load the next job comes at once; nobody needs one that nobody took. */
const keptMs = 2_500;

export interface SpareFile {
  name: string;
  sizeBytes: number;
}

export class SpareInputFiles {
  /** The latest is the last: its memory may still be in the processor's cache. */
  #spare: { file: SpareFile; sinceMs: number }[] = [];
  #bytes = 0;

  /** Answers those for which there is no room any more. */
  put(file: SpareFile, nowMs: number): SpareFile[] {
    if (file.sizeBytes > mostBytes) return [file];
    this.#spare.push({ file, sinceMs: nowMs });
    this.#bytes += file.sizeBytes;
    let count = 0;
    for (let left = this.#bytes; left > mostBytes; count++) left -= this.#spare[count]!.file.sizeBytes;
    return this.#oldest(count);
  }

  take(): SpareFile | undefined {
    const file = this.#spare.pop()?.file;
    if (file) this.#bytes -= file.sizeBytes;
    return file;
  }

  /** Whether one had that name. */
  forget(name: string): boolean {
    const at = this.#spare.findIndex(({ file }) => file.name === name);
    if (at === -1) return false;
    const [gone] = this.#spare.splice(at, 1);
    this.#bytes -= gone!.file.sizeBytes;
    return true;
  }

  /** Answers those that nobody took for a while. */
  letGo(nowMs: number): SpareFile[] {
    const count = this.#spare.findIndex(({ sinceMs }) => sinceMs > nowMs - keptMs);
    return this.#oldest(count === -1 ? this.#spare.length : count);
  }

  letAllGo(): SpareFile[] {
    return this.#oldest(this.#spare.length);
  }

  #oldest(count: number): SpareFile[] {
    if (count === 0) return [];
    const gone = this.#spare.splice(0, count).map(({ file }) => file);
    for (const { sizeBytes } of gone) this.#bytes -= sizeBytes;
    return gone;
  }
}
