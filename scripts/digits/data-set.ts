/** The UCI handwritten digits: 1,797 images of 8×8 pixels, 0 (paper) to 16 (ink), each with its digit. */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { seededRandom, shuffle } from "../seeded-random.ts";

export interface Digit {
  /** 64 values 0–16, row by row. */
  pixels: number[];
  label: number;
}

/** Of the unpacked table, so that another edition of the data cannot slip in. */
const tableSha256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8";

/** Reads `digits.csv` or `digits.csv.gz` as scikit-learn ships it; without a path the file is taken from scikit-learn's wheel. */
export function readDigits(path?: string): Digit[] {
  const file = path === undefined ? fromWheel() : readFileSync(path);
  const table = file[0] === 0x1f && file[1] === 0x8b ? gunzipSync(file) : file;
  const sha256 = createHash("sha256").update(table).digest("hex");
  if (sha256 !== tableSha256) throw new Error(`digits table: expected SHA-256 ${tableSha256}, got ${sha256}`);
  return table
    .toString("ascii")
    .trim()
    .split("\n")
    .map((line) => {
      const values = line.split(",").map(Number);
      return { pixels: values.slice(0, 64), label: values[64]! };
    });
}

/** Needs Python with pip; a wheel is a zip archive, which Python unpacks by itself. */
function fromWheel(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "digits-"));
  try {
    execFileSync("python3", ["-m", "pip", "download", "scikit-learn", "--no-deps", "--quiet", "--dest", folder], { stdio: "inherit" });
    const wheel = readdirSync(folder).find((name) => name.endsWith(".whl"));
    if (wheel === undefined) throw new Error("pip downloaded no wheel of scikit-learn");
    execFileSync("python3", ["-m", "zipfile", "-e", join(folder, wheel), folder], { stdio: "inherit" });
    return readFileSync(join(folder, "sklearn/datasets/data/digits.csv.gz"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A fixed seed gives a fixed split; a quarter is held out. */
export function splitDigits(digits: readonly Digit[], seed: number): { train: Digit[]; heldOut: Digit[] } {
  const shuffled = shuffle([...digits], seededRandom(seed));
  const heldOutCount = Math.round(digits.length / 4);
  return { train: shuffled.slice(heldOutCount), heldOut: shuffled.slice(0, heldOutCount) };
}

const pixelAlphabet = "0123456789abcdefg";

/** One character per pixel: 0–9, then a–g for 10–16. */
export function pixelsAsText(pixels: readonly number[]): string {
  return pixels.map((pixel) => pixelAlphabet[pixel]).join("");
}
