/**
 * Whether this host sees the folder in which coordinators keep large values, on a disk of its own machine: told with its beats, so that they know
 * whether inputs may be handed over as files. Looks until it is there, then now and then.
 */

import { constants } from "node:fs";
import { access, readFile, stat, statfs } from "node:fs/promises";
import path from "node:path";
import { blobFolderIdFile, bootIdFile, type ChangingFacts, inputFilesFolder, isLocalDisk, sightOfFolder } from "@switchyard/protocol";

/** One look in so many, once the folder is found. */
const restLooks = 30;
/** A look that is not over after so many beats may never be. */
const longestBeats = 3;

export class SeenFolder {
  readonly #root: string;
  #sight: string | undefined;
  #rest = 0;
  #isLooking = false;
  /** Beats since the look began. */
  #beats = 0;

  constructor(root: string) {
    this.#root = root;
  }

  /** Nothing while the folder is not seen. */
  told(): Pick<ChangingFacts, "blobFolder"> {
    return this.#sight === undefined ? {} : { blobFolder: this.#sight };
  }

  /** To be called with each beat; nobody waits for it: on a file system that hangs a look may never end. */
  look(): void {
    if (this.#isLooking) {
      if (++this.#beats >= longestBeats) this.#sight = undefined;
      return;
    }
    if (this.#sight !== undefined && this.#rest-- > 0) return;
    this.#rest = restLooks;
    this.#isLooking = true;
    this.#beats = 0;
    this.#see().then(
      (sight) => this.#saw(sight),
      () => this.#saw(undefined), // not there, or not for this user
    );
  }

  #saw(sight: string | undefined): void {
    this.#isLooking = false;
    this.#sight = sight;
  }

  async #see(): Promise<string | undefined> {
    if (!isLocalDisk((await statfs(this.#root)).type)) return undefined;
    await access(path.join(this.#root, inputFilesFolder), constants.R_OK | constants.X_OK);
    return seenFolder(this.#root);
  }
}

/** See `sightOfFolder`. Throws where there is no such folder, or none with an id. */
export async function seenFolder(blobsFolder: string): Promise<string> {
  const idFile = path.join(blobsFolder, blobFolderIdFile);
  const [id, bootId, { dev, ino }] = await Promise.all([readFile(idFile, "utf8"), readFile(bootIdFile, "utf8"), stat(idFile)]);
  return sightOfFolder({ id, bootId, dev, ino });
}
