/** Reads a model's model.yaml and the label files that it names. Every fault is text that names file, field and expectation. */

import { readFile, realpath, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { ModelConfig } from "@switchyard/protocol";
import { checkModelConfig } from "@switchyard/protocol/schemas";
import { type Fingerprint, fingerprintOf, isInside } from "./model-file.ts";
import { readYaml } from "./yaml-document.ts";

export interface ModelSettings {
  config: ModelConfig;
  labels?: Record<string, string[]>;
  /** Why no version of the model can be served. */
  failure?: string;
  /** Every file that was read, by absolute path, as it was; undefined where one is missing. */
  files: Map<string, Fingerprint | undefined>;
}

const largestConfigBytes = 1 << 20;
const largestLabelsBytes = 16 << 20;

/** `folder` is the model's folder (real path). A model without model.yaml has the empty configuration. */
export async function readModelSettings(folder: string): Promise<ModelSettings> {
  const files = new Map<string, Fingerprint | undefined>();
  const settings: ModelSettings = { config: {}, files };
  try {
    const text = await readInside("model.yaml", { folder, limit: largestConfigBytes, files });
    if (text === undefined) return settings;
    const document = readYaml(text);
    if ("problem" in document) throw new Error(document.problem);
    const checked = checkModelConfig(document.value);
    if ("problem" in checked) throw new Error(checked.problem);
    const labels = await readLabels(checked.config, folder, files);
    return { config: checked.config, files, ...(labels ? { labels } : {}) };
  } catch (error) {
    settings.failure = `model.yaml: ${(error as Error).message}`;
    return settings;
  }
}

type Files = Map<string, Fingerprint | undefined>;

async function readLabels(config: ModelConfig, folder: string, files: Files): Promise<Record<string, string[]> | undefined> {
  const labels: Record<string, string[]> = {};
  for (const [output, { labels: file }] of Object.entries(config.outputs ?? {})) {
    if (file === undefined) continue;
    const text = await readInside(file, { folder, limit: largestLabelsBytes, files }).catch((error: Error) => {
      throw new Error(`outputs.${output}.labels: ${error.message}`);
    });
    const expected = `outputs.${output}.labels: expected a text file in the model's folder with one label per line`;
    if (text === undefined) throw new Error(`${expected}, but there is no ${JSON.stringify(file)}`);
    const lines = text.replace(/\r?\n$/, "").split(/\r?\n/);
    if (lines.length === 1 && lines[0] === "") throw new Error(`${expected}, but ${JSON.stringify(file)} is empty`);
    Object.defineProperty(labels, output, { value: lines, enumerable: true, configurable: true, writable: true });
  }
  return Object.keys(labels).length > 0 ? labels : undefined;
}

/** Undefined when there is no such file. The file must lie in the folder, links followed. */
async function readInside(
  name: string,
  { folder, limit, files }: { folder: string; limit: number; files: Files },
): Promise<string | undefined> {
  const path = join(folder, name);
  const outside = `${JSON.stringify(name)} lies outside the model's folder`;
  if (isAbsolute(name) || !isInside(path, folder)) throw new Error(outside);
  const fingerprint = fingerprintOf(path);
  files.set(path, fingerprint);
  if (fingerprint === undefined) return undefined;
  if (!isInside(await realpath(path), folder)) throw new Error(outside);
  if (!(await stat(path)).isFile()) throw new Error(`${JSON.stringify(name)} is no file`);
  if (fingerprint.size > limit) throw new Error(`${JSON.stringify(name)} has ${fingerprint.size} bytes, more than ${limit}`);
  return readFile(path, "utf8");
}
