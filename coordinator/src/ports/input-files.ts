/**
 * Inputs of jobs as files on a disk that all hosts share with the coordinators: they then pass neither the store nor its file. Who has a job's inputs
 * here keeps the reference in their place; a file lives as long as the job has it.
 */

import type { InputFileReference, JobState } from "@switchyard/protocol";

/** Whether they are used: `auto` where the store is on this machine too. */
export const inputFileUses = ["auto", "yes", "no"] as const;
export type InputFileUse = (typeof inputFileUses)[number];

export interface InputFiles {
  /**
   * Writes a job's frame, given in parts, at once. Undefined when it must go another way: hosts do not see the folder, there is no room, the file
   * cannot be written, or is there.
   */
  write(job: { id: string; held: boolean }, frame: readonly Uint8Array[]): InputFileReference | undefined;
  /** The job for which a file was written was not admitted. */
  refused(jobId: string): void;
  /** Whether it was admitted the store will tell. */
  doubtful(jobId: string): void;
  /** The job is over, and needs its inputs no more, unless it has become a dead letter. Without effect for files that this process did not write. */
  ended(jobId: string, state: JobState): void;
  /** The first `bytes` of the frame, all by default; undefined when the file is gone or not whole. */
  read(jobId: string, reference: InputFileReference, bytes?: number): Promise<Uint8Array | undefined>;
}
