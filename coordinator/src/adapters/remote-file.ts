/** Reads a version's remote.yaml, which stands where another has its model.onnx. Its text is the version's content: it never changes. */

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { RemoteModel } from "@switchyard/protocol";
import { checkRemoteModel } from "@switchyard/protocol/schemas";
import { fingerprintOf, type ModelFile, sameFingerprint } from "./model-file.ts";
import { readYaml } from "./yaml-document.ts";

export const remoteName = "remote.yaml";

export interface RemoteFile extends ModelFile {
  remote?: RemoteModel;
  /** Absent for model.onnx. */
  fileName?: string;
}

const largestBytes = 1 << 20;

/** `missing` is the path of the ONNX file that is not there: when it comes, the version must be read again. */
export async function readRemoteFile(path: string, about: { model: string; missing: string }): Promise<RemoteFile> {
  const before = fingerprintOf(path);
  const read: RemoteFile = {
    digest: "",
    sizeBytes: before?.size ?? 0,
    signature: { inputs: [], outputs: [] },
    files: new Map([
      [path, before],
      [about.missing, undefined],
    ]),
    unsettled: false,
    fileName: remoteName,
  };
  if (read.sizeBytes > largestBytes) return { ...read, failure: `has ${read.sizeBytes} bytes, more than ${largestBytes}` };
  const bytes = await readFile(path);
  read.digest = createHash("sha256").update(bytes).digest("hex");
  read.unsettled = !sameFingerprint(fingerprintOf(path), before);
  const document = readYaml(bytes.toString());
  if ("problem" in document) return { ...read, failure: document.problem };
  const checked = checkRemoteModel(document.value, about.model);
  if ("problem" in checked) return { ...read, failure: checked.problem };
  return { ...read, signature: checked.signature, remote: checked.remote };
}
