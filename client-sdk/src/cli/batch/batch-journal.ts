/**
 * The journal beside the answers: which file and terms they are of, what is submitted and what is answered. It is replaced as a whole, after the
 * answers that it counts are on the disk, so it never promises what is not there; answers that came later are counted from their own file.
 */

import { open, readFile, rename, stat } from "node:fs/promises";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import type { BatchOutcome } from "../../batch-run.ts";
import { UsageError } from "../exit-codes.ts";
import { AnswerFile, answerLine, readAnswers } from "./answer-file.ts";
import { AnsweredLines } from "./answered-lines.ts";
import type { ItemFile } from "./item-file.ts";

const journalSchema = z.object({
  format: z.literal(1),
  file: z.object({ sha256: z.string(), lines: z.number(), items: z.number() }),
  /** As they were asked for. */
  terms: z.record(z.string(), z.unknown()),
  /** The model's version that was served at the start; all items run on it. */
  version: z.number(),
  /** Line `index` has the idempotency key `key/index`. */
  key: z.string(),
  /** Lines before this one are submitted, or may be. */
  submitted: z.number(),
  /** Of lines: from, and up to but without. */
  answered: z.array(z.tuple([z.number(), z.number()])),
  succeeded: z.number(),
  failed: z.number(),
  /** Size of the file of answers when these were all that it had. */
  output_bytes: z.number(),
});

type JournalContent = z.infer<typeof journalSchema>;

/** What is fixed for all items at the first start. */
export type BatchStart = Pick<JournalContent, "file" | "terms" | "version" | "key">;

export class BatchJournal {
  readonly start: BatchStart;
  readonly #path: string;
  readonly #answered: AnsweredLines;
  readonly #answers: AnswerFile;
  #submitted: number;
  #succeeded: number;
  #failed: number;

  private constructor(journalPath: string, content: JournalContent, parts: { answered: AnsweredLines; answers: AnswerFile }) {
    const { file, terms, version, key, submitted, succeeded, failed } = content;
    this.start = { file, terms, version, key };
    this.#path = journalPath;
    this.#answered = parts.answered;
    this.#answers = parts.answers;
    [this.#submitted, this.#succeeded, this.#failed] = [submitted, succeeded, failed];
  }

  /**
   * Begins, or goes on where an earlier process was. Throws UsageError when the answers or the journal are of something else, or cannot be written.
   *
   * @param output the file of answers; the journal lies beside it
   * @param start called when there is no journal yet
   */
  static async open(
    output: string,
    asked: { file: ItemFile; terms: Record<string, unknown> },
    start: () => Promise<Pick<BatchStart, "version" | "key">>,
  ): Promise<BatchJournal> {
    const journalPath = `${output}.journal`;
    const earlier = await readJournal(journalPath);
    const outputBytes = await sizeOf(output);
    if (earlier === undefined && outputBytes > 0) {
      throw new UsageError(
        `${output} exists, and no ${path.basename(journalPath)} says what it is of; give another --output, or remove it`,
      );
    }
    if (earlier !== undefined) checkSame(journalPath, earlier, asked);
    const begun = { format: 1 as const, ...asked, submitted: 0, answered: [], succeeded: 0, failed: 0, output_bytes: 0 };
    const content: JournalContent = earlier ?? { ...begun, ...(await start()) };
    // a file of answers that is shorter than it was is counted anew
    const counted = outputBytes < content.output_bytes ? { ...content, answered: [], succeeded: 0, failed: 0, output_bytes: 0 } : content;
    const answered = new AnsweredLines(content.file.lines, counted.answered);
    if (earlier === undefined) await writeJournal(journalPath, content); // before anything is submitted under its key
    const endBytes = outputBytes === 0 ? 0 : await countLater(output, counted, answered);
    const answers = await AnswerFile.open(output, endBytes);
    return new BatchJournal(journalPath, counted, { answered, answers });
  }

  get items(): number {
    return this.start.file.items;
  }

  get succeeded(): number {
    return this.#succeeded;
  }

  get failed(): number {
    return this.#failed;
  }

  get done(): number {
    return this.#succeeded + this.#failed;
  }

  isAnswered(index: number): boolean {
    return this.#answered.has(index);
  }

  willSubmit(index: number): void {
    this.#submitted = Math.max(this.#submitted, index + 1);
  }

  /** Writes the answer. Throws UsageError when it cannot. */
  async answer(outcome: BatchOutcome<string>): Promise<void> {
    this.#answered.add(outcome.index);
    if (outcome.error === undefined) this.#succeeded++;
    else this.#failed++;
    await this.#answers.add(answerLine(outcome));
  }

  /** Resolves when answers and journal are on the disk. Nothing may be answered meanwhile. */
  async save(): Promise<void> {
    await this.#answers.sync();
    const content: JournalContent = {
      format: 1,
      ...this.start,
      submitted: this.#submitted,
      answered: this.#answered.ranges(),
      succeeded: this.#succeeded,
      failed: this.#failed,
      output_bytes: this.#answers.sizeBytes,
    };
    await writeJournal(this.#path, content);
  }

  async close(): Promise<void> {
    await this.#answers.close();
  }
}

/** Counts the answers behind those that the journal counts; answers where the last whole one ends. */
async function countLater(output: string, content: JournalContent, answered: AnsweredLines): Promise<number> {
  return readAnswers(output, content.output_bytes, ({ index, failed }) => {
    if (index >= content.file.lines) throw new UsageError(`${output} answers line ${index}, which the file of items does not have`);
    if (answered.has(index)) throw new UsageError(`${output} answers line ${index} twice; was it written by two commands at once?`);
    answered.add(index);
    if (failed) content.failed++;
    else content.succeeded++;
  });
}

function checkSame(journalPath: string, earlier: JournalContent, asked: { file: ItemFile; terms: Record<string, unknown> }): void {
  const advice = "give another --output, or remove this journal and its answers";
  if (earlier.file.sha256 !== asked.file.sha256)
    throw new UsageError(`${journalPath} is of another file, or of one that has changed; ${advice}`);
  if (isDeepStrictEqual(earlier.terms, asked.terms)) return;
  const [before, now] = [earlier.terms, asked.terms].map((terms) => JSON.stringify(terms));
  throw new UsageError(`${journalPath} was begun with ${before}, not with ${now}; ${advice}`);
}

async function readJournal(journalPath: string): Promise<JournalContent | undefined> {
  let text: string;
  try {
    text = await readFile(journalPath, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw new UsageError(`cannot read ${journalPath}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const read = journalSchema.safeParse(parsed(text));
  if (!read.success) throw new UsageError(`${journalPath} is no journal of this command`);
  return read.data;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Under another name first, so that there is always a whole one. */
async function writeJournal(journalPath: string, content: JournalContent): Promise<void> {
  const written = `${journalPath}.new`;
  try {
    const handle = await open(written, "w");
    try {
      await handle.writeFile(`${JSON.stringify(content)}\n`);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    await rename(written, journalPath);
  } catch (error) {
    throw new UsageError(`cannot write ${journalPath}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw new UsageError(`cannot read ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
