/** Reads a model version's files and answers for their content: what is loaded is what the registry named by its digest. */

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { type ModelVersion, SwitchyardError } from "@switchyard/protocol";
import { readGraph } from "@switchyard/protocol/onnx";

export interface ModelFiles {
  /** The ONNX file. */
  path: string;
  bytes: Uint8Array;
  hasExternalWeights: boolean;
  /** ONNX file and external weights together. */
  sizeBytes: number;
}

/** What lies on the disk is not what the registry names. Other than a model that no runtime takes, it is worth being fetched again. */
export class DamagedFiles extends SwitchyardError {
  constructor(detail: string) {
    super("model_not_ready", detail);
  }
}

/**
 * Reads the ONNX file below `root` and checks the SHA-256 over it and its external files, in name order. Of a version that was uploaded nothing
 * is parsed before. Throws DamagedFiles when a file cannot be read or the content is not the version's, `model_not_ready` when a name leads out
 * of the model's folder.
 */
export async function readModelFiles(version: ModelVersion, root: string): Promise<ModelFiles> {
  const path = inside(resolve(root), version.path);
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw new DamagedFiles(`${version.path} cannot be read (${error.code})`);
  });
  const hash = createHash("sha256").update(bytes);
  let sizeBytes = bytes.length;
  // the registry lists the files of an uploaded version, its ONNX file first
  const externalFiles = version.files?.slice(1).map(({ name }) => name) ?? externalFilesIn(bytes, version);
  for (const name of externalFiles) {
    const weights = inside(dirname(path), name);
    try {
      for await (const chunk of createReadStream(weights)) {
        hash.update(chunk);
        sizeBytes += chunk.length;
      }
    } catch (error) {
      throw new DamagedFiles(
        `external weights ${basename(name)} of ${version.path} cannot be read (${(error as NodeJS.ErrnoException).code})`,
      );
    }
  }
  const digest = hash.digest("hex");
  if (digest !== version.digest) {
    throw new DamagedFiles(`${version.path} has changed: its SHA-256 is ${digest}, the registry names ${version.digest}`);
  }
  return { path, bytes, hasExternalWeights: externalFiles.length > 0, sizeBytes };
}

function externalFilesIn(bytes: Uint8Array, { path }: ModelVersion): readonly string[] {
  try {
    return readGraph(bytes).externalFiles;
  } catch (error) {
    throw notReady(`${path} is no ONNX file, or a damaged one: ${(error as Error).message}`);
  }
}

function inside(folder: string, name: string): string {
  const path = resolve(join(folder, name));
  if (!path.startsWith(folder.endsWith(sep) ? folder : folder + sep)) throw notReady(`${name} lies outside its folder`);
  return path;
}

function notReady(detail: string): SwitchyardError {
  return new SwitchyardError("model_not_ready", detail);
}
