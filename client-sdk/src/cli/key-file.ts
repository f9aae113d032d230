/**
 * The file of API keys as `switchyard keys` changes it: read whole, checked, written whole and put in place at once, comments kept. The new
 * content is made beside the file under a name that only one writer can have at a time. The only file that knows the YAML library here.
 */

import { type FileHandle, open, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { type ApiKeyEntry, checkKeyFile } from "@switchyard/protocol/api-keys";
import { Document, isSeq, parseDocument } from "yaml";
import { systemClock } from "../clock.ts";
import { UsageError } from "./exit-codes.ts";

/** Of a new file: its owner's alone. A file that exists keeps the mode that it has. */
const newFileMode = 0o600;
/** A writer is done within milliseconds. */
const patienceMs = 2_000;

const head = "# API keys of Switchyard, made by `switchyard keys`. Only digests of secrets are kept here.\n";

/** The entry as it stands in the file. */
export function entryText(entry: ApiKeyEntry): string {
  const document = new Document([]);
  append(document, entry);
  return textIn(document);
}

function append(document: Document, entry: ApiKeyEntry): void {
  const list: unknown = document.contents;
  if (!isSeq(list)) throw new Error("a checked key file is a list");
  const node = document.createNode(entry);
  for (const field of ["scopes", "models"]) {
    const words: unknown = node.get(field);
    if (isSeq(words)) words.flow = true; // on one line
  }
  if (list.items.length === 0) list.flow = false;
  list.add(node);
}

function textIn(document: Document): string {
  return document.toString({ flowCollectionPadding: false });
}

/** Throws UsageError with every mistake. */
export async function readKeyFile(path: string): Promise<ApiKeyEntry[]> {
  return parse(await textOf(path), path).entries;
}

/** Appends an entry; makes the file when there is none. `make` sees the entries that are there. */
export async function appendKey(path: string, make: (entries: readonly ApiKeyEntry[]) => ApiKeyEntry): Promise<ApiKeyEntry> {
  return changed(path, async (file) => {
    const before = await textOf(file).catch((error: unknown) => {
      if (isMissing(error)) return undefined;
      throw error;
    });
    const { document, entries } = parse(before === undefined || before.trim() === "" ? `${head}[]` : before, path);
    const entry = make(entries);
    append(document, entry);
    return { text: textIn(document), answer: entry };
  });
}

/** Removes the entry with this id; undefined when there is none, and the file is left as it is. */
export async function removeKey(path: string, id: string): Promise<ApiKeyEntry | undefined> {
  return changed(path, async (file) => {
    const { document, entries } = parse(await textOf(file), path);
    const at = entries.findIndex((entry) => entry.id === id);
    if (at < 0) return { answer: undefined };
    document.deleteIn([at]);
    return { text: textIn(document), answer: entries[at] };
  });
}

function parse(text: string, path: string): { document: Document; entries: ApiKeyEntry[] } {
  const document = parseDocument(text);
  const faults = document.errors.map(({ message }) => message.split("\n")[0]!);
  if (faults.length > 0) throw new UsageError(`${path} is not valid YAML: ${faults.join("; ")}`);
  const checked = checkKeyFile(plain(document, path));
  if ("entries" in checked) return { document, entries: checked.entries };
  throw new UsageError(`${path} has mistakes:\n${checked.mistakes.map((mistake) => `  ${mistake.text}`).join("\n")}`);
}

function plain(document: Document, path: string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    throw new UsageError(`${path} refers to itself more often than a file of keys does: ${(error as Error).message}`);
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof UsageError && (error.cause as NodeJS.ErrnoException | undefined)?.code === "ENOENT";
}

/** Runs `change` while nobody else changes the file; without a text the file stays as it is. */
async function changed<Answer>(path: string, change: (file: string) => Promise<{ text?: string; answer: Answer }>): Promise<Answer> {
  const file = await realpath(path).catch(() => path); // a link stays a link
  const next = `${file}.new`;
  const handle = await claim(next, (await stat(file).catch(() => undefined))?.mode ?? newFileMode, path);
  let isPlaced = false; // once it is, the name is free for others
  try {
    const { text, answer } = await change(file);
    if (text === undefined) return answer;
    await handle.writeFile(text);
    await handle.sync();
    await rename(next, file);
    isPlaced = true;
    return answer;
  } finally {
    await handle.close();
    if (!isPlaced) await rm(next, { force: true });
  }
}

/** Waits a moment for another writer. */
async function claim(next: string, mode: number, path: string): Promise<FileHandle> {
  const untilMs = systemClock.monotonicMs() + patienceMs;
  for (;;) {
    try {
      const handle = await open(next, "wx", mode & 0o777);
      await handle.chmod(mode & 0o777); // whatever the umask took away
      return handle;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== "EEXIST") throw new UsageError(`cannot write beside ${path}: ${message}`);
      if (systemClock.monotonicMs() > untilMs) {
        throw new UsageError(`${path} is being changed by another process; if there is none, one was killed: remove ${next}`);
      }
      await systemClock.sleep(20);
    }
  }
}
