/**
 * Whether this host sees the folder in which coordinators keep large values, on a disk of its own machine: told with its beats, so that they know
 * whether inputs may be handed over as files. Looks until it is there, then now and then.
 */

import { readFile, statfs } from "node:fs/promises";
import path from "node:path";
import { blobFolderIdFile, type ChangingFacts, isLocalDisk } from "@switchyard/protocol";

/** One look in so many, once the folder is found. */
const restLooks = 30;

export class SeenFolder {
  readonly #root: string;
  #id: string | undefined;
  #rest = 0;

  constructor(root: string) {
    this.#root = root;
  }

  /** The folder's id, which its coordinators know; nothing while it is not seen. */
  told(): Pick<ChangingFacts, "blobFolder"> {
    return this.#id === undefined ? {} : { blobFolder: this.#id };
  }

  /** To be called with each beat. Never throws. */
  async look(): Promise<void> {
    if (this.#id !== undefined && this.#rest-- > 0) return;
    this.#rest = restLooks;
    try {
      const { type } = await statfs(this.#root);
      this.#id = isLocalDisk(type) ? await readFile(path.join(this.#root, blobFolderIdFile), "utf8") : undefined;
    } catch {
      this.#id = undefined; // not there, or not for this user
    }
  }
}
