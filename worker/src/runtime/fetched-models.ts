/**
 * Uploaded versions on this machine's disk: one folder for each content, whatever models have it. Files come from the cluster's blob folder
 * where this host sees it, else from a coordinator; a download that was cut off goes on where it stopped. What is here is whole; whether it
 * is what the registry names is checked with every load.
 */

import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isInnerPath, type ModelFileReference, type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import type { Clock } from "../clock.ts";

/** Where files come from. */
export interface FileSource {
  /** Puts the file there, checked; goes on with what is there of it. Throws SwitchyardError. */
  fetch(file: ModelFileReference, path: string): Promise<void>;
}

interface Parts {
  /** Of this host alone or shared with other workers of the machine. */
  folder: string;
  hostId: string;
  source: FileSource;
  clock: Pick<Clock, "nowMs">;
}

/** What nobody loaded for so long goes; it can be fetched again. */
const unusedMs = 7 * 86_400_000;

export class FetchedModels {
  readonly #parts: Parts;
  readonly #fetching = new Map<string, Promise<string>>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The folder with the version's files. Calls for the same content share one fetch. Throws SwitchyardError `model_not_ready` with the reason. */
  folderOf({ digest, files = [] }: ModelVersion): Promise<string> {
    let fetching = this.#fetching.get(digest);
    if (!fetching) {
      fetching = this.#fetch(digest, files).finally(() => this.#fetching.delete(digest));
      this.#fetching.set(digest, fetching);
    }
    return fetching;
  }

  /** The content is not what it should be: it is fetched anew. */
  async discard({ digest }: ModelVersion): Promise<void> {
    await rm(join(this.#parts.folder, digest), { recursive: true, force: true });
  }

  async #fetch(digest: string, files: readonly ModelFileReference[]): Promise<string> {
    const { clock, folder, hostId, source } = this.#parts;
    const whole = join(folder, digest);
    try {
      const now = new Date(clock.nowMs());
      if (await stat(whole).catch(() => undefined)) {
        await utimes(whole, now, now);
        return whole;
      }
      await this.#forgetUnused();
      const partial = join(folder, `${digest}.${hostId}`);
      for (const file of files) {
        if (!isInnerPath(file.name))
          throw notReady(`the registry names a file ${JSON.stringify(file.name)}, which lies outside its folder`);
        const path = join(partial, file.name);
        await mkdir(dirname(path), { recursive: true });
        await source.fetch(file, path);
      }
      await rename(partial, whole).catch(async (error: NodeJS.ErrnoException) => {
        if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
        await rm(partial, { recursive: true, force: true }); // another worker of this machine was quicker
      });
      return whole;
    } catch (error) {
      if (error instanceof SwitchyardError) throw notReady(`its files cannot be fetched: ${error.message}`);
      throw notReady(`its files cannot be kept in ${folder}: ${(error as Error).message}`);
    }
  }

  async #forgetUnused(): Promise<void> {
    const { clock, folder } = this.#parts;
    for (const name of await readdir(folder).catch(() => [])) {
      const path = join(folder, name);
      const facts = await stat(path).catch(() => undefined);
      if (facts && facts.mtimeMs + unusedMs < clock.nowMs()) await rm(path, { recursive: true, force: true });
    }
  }
}

function notReady(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", detail);
}
