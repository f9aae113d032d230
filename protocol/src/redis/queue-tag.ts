/** Identities that carry a queue. All keys of one queue share its tag, so that every script touches one slot of a Redis Cluster. */

import { createHash, randomBytes, randomFillSync } from "node:crypto";
import type { Capabilities } from "../capabilities.ts";
import type { ModelConfig } from "../schemas/model-config.ts";

const alphabet = "abcdefghijklmnopqrstuvwxyz234567";

function base32(bytes: Uint8Array, length: number): string {
  let text = "";
  let held = 0;
  let bits = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5 && text.length < length) {
      bits -= 5;
      text += alphabet[(held >> bits) & 31];
    }
    held &= (1 << bits) - 1;
  }
  if (text.length < length && bits > 0) text += alphabet[(held << (5 - bits)) & 31];
  return text;
}

/** 10 base32 characters of SHA-256(model name, version digest). */
export function queueTag(model: string, digest: string): string {
  return base32(createHash("sha256").update(model).update("\0").update(digest).digest(), 10);
}

/** Of jobs of that version with a requirement of their own, as `canonicalRequirement` writes it. */
export function choosyQueueTag(model: string, digest: string, requirement: string): string {
  return queueTag(model, `${digest}\0${requirement}`);
}

/** 8 characters that hosts share when they have the same to offer: what may be given to one may be given to all of them. */
export function profileOf({ providers, gpus, frameworks, labels }: Capabilities): string {
  const said = [
    [...providers].sort(),
    gpus.map(({ name, memoryMb }) => `${memoryMb} ${name}`).sort(),
    [...frameworks].sort(),
    Object.entries(labels).sort(([one], [other]) => (one < other ? -1 : 1)),
  ];
  return base32(createHash("sha256").update(JSON.stringify(said)).digest(), 8);
}

/** Random bytes are drawn in bulk: one call to the system for 256 ids. */
const pool = Buffer.alloc(4096);
let poolAt = pool.length;

/** `<tag>-<26 base32 characters>`: 128 random bits behind the tag of the job's queue. */
export function newJobId(tag: string): string {
  if (poolAt === pool.length) {
    randomFillSync(pool);
    poolAt = 0;
  }
  poolAt += 16;
  return `${tag}-${base32(pool.subarray(poolAt - 16, poolAt), 26)}`;
}

/** Of one of several jobs that were made together: who knows the first one's id knows all of them. */
export function memberJobId(leadId: string, index: number): string {
  return `${tagOf(leadId)}-${base32(createHash("sha256").update(`${leadId}\0${index}`).digest(), 26)}`;
}

const folderMarkChars = 6;

/**
 * Stands for how a process sees a folder, see `sightOfFolder`, in references to files there: first for the folder, then for the machine's start in which it is seen so.
 * Ten characters of base32.
 */
export function sightMark(sight: string): string {
  const [folder = "", ...start] = sight.split(" ");
  const mark = (text: string, chars: number): string => base32(createHash("sha256").update(text).digest(), chars);
  return mark(folder, folderMarkChars) + mark(start.join(" "), 10 - folderMarkChars);
}

/** Whether two marks are of one folder, be it that the machine has started anew between them. */
export function areOfOneFolder(mark: string, other: string): boolean {
  return mark.slice(0, folderMarkChars) === other.slice(0, folderMarkChars);
}

export const jobIdPattern = /^[a-z2-7]{10}-[a-z2-7]{26}$/;

/** The queue that a job or ticket id belongs to. */
export function tagOf(id: string): string {
  return id.slice(0, 10);
}

/** 128 random bits that name one start of a process. */
export function newIncarnation(): string {
  return base32(randomBytes(16), 26);
}

/** Stands for a model's settings, so that a host can say with which ones it has loaded it. */
export function configMark(config: ModelConfig): string {
  return base32(createHash("sha256").update(JSON.stringify(config)).digest(), 8);
}
