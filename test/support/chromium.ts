/**
 * A headless Chromium to test the console with: the one on PATH, else the distribution's package, unpacked into the cache with its libraries
 * and a font. Nothing of the machine is changed.
 */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { canFetchDebianPackages, fetchDebianPackages } from "../../coordinator/src/embedded/debian-packages.ts";
import { testRedisCache } from "./redis.ts";

export interface ChromiumBinary {
  path: string;
  version: string;
  /** What it needs in its environment beside ours. */
  env: Record<string, string>;
}

const program = "usr/lib/chromium/chromium"; // usr/bin/chromium is a script that looks for the system's files
const wanted = {
  packages: ["chromium", "chromium-common", "fonts-dejavu-core"],
  programs: [program],
  libraries: {
    ...{ "libatk-1.0": "libatk1.0-0", "libatk-bridge-2.0": "libatk-bridge2.0-0", libatspi: "libatspi2.0-0" },
    ...{ "libglib-2.0": "libglib2.0-0", "libgobject-2.0": "libglib2.0-0", "libgio-2.0": "libglib2.0-0", "libgmodule-2.0": "libglib2.0-0" },
    ...{
      libnss3: "libnss3",
      libnssutil3: "libnss3",
      libsmime3: "libnss3",
      libnspr4: "libnspr4",
      libplc4: "libnspr4",
      libplds4: "libnspr4",
    },
    ...{
      libharfbuzz: "libharfbuzz0b",
      libjpeg: "libjpeg62-turbo",
      libbrotlidec: "libbrotli1",
      libbrotlicommon: "libbrotli1",
      libvorbis: "libvorbis0a",
    },
  },
};

/** The program, or why there is none. */
export async function findChromium(): Promise<ChromiumBinary | string> {
  const onPath = (process.env.PATH ?? "")
    .split(path.delimiter)
    .flatMap((folder) => ["chromium", "chromium-browser", "google-chrome"].map((name) => path.join(folder, name)))
    .find((file) => existsSync(file));
  if (onPath) return asBinary(onPath, {});
  if (!canFetchDebianPackages()) return "chromium is not on PATH, and this machine has no apt-get to fetch it with";
  try {
    const { root, libraryPath } = await fetchDebianPackages({ ...wanted, cacheFolder: testRedisCache });
    const fonts = await fontSettings(root);
    return await asBinary(path.join(root, program), { LD_LIBRARY_PATH: libraryPath, FONTCONFIG_FILE: fonts });
  } catch (error) {
    return `chromium could not be fetched: ${(error as Error).message}`;
  }
}

/** Machines without a desktop have no fonts, and text would be boxes. */
async function fontSettings(root: string): Promise<string> {
  const folder = path.join(root, "..", "fonts");
  const file = path.join(folder, "fonts.conf");
  if (existsSync(file)) return file;
  await mkdir(folder, { recursive: true });
  const dirs = [path.join(root, "usr/share/fonts"), "/usr/share/fonts"].map((dir) => `<dir>${dir}</dir>`).join("");
  await writeFile(file, `<?xml version="1.0"?><fontconfig>${dirs}<cachedir>${path.join(folder, "cache")}</cachedir></fontconfig>\n`);
  return file;
}

async function asBinary(file: string, env: Record<string, string>): Promise<ChromiumBinary | string> {
  try {
    const { stdout } = await promisify(execFile)(file, ["--version"], { env: { ...process.env, ...env } });
    const version = /\b(\d+\.\d+\.\d+\.\d+)\b/.exec(stdout)?.[1];
    return version === undefined ? `${file} does not say its version: ${stdout}` : { path: file, version, env };
  } catch (error) {
    return `${file} does not run: ${(error as Error).message}`;
  }
}
