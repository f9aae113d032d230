/** The repository's own files, as the tidy tests read them: tracked or new, never ignored ones. */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const packages = ["protocol", "coordinator", "worker", "client-sdk", "console"] as const;

export interface SourceFile {
  /** From the repository's root, with slashes. */
  path: string;
  text: string;
}

export interface Import {
  /** As written. */
  specifier: string;
  /** Vanishes when types are stripped. */
  typeOnly: boolean;
}

/** All files, read as text; binary ones are left out. */
export function repositoryFiles(): SourceFile[] {
  const listed = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" });
  const names = listed.split("\n").filter((name) => name !== "" && existsSync(path.join(root, name)));
  return names
    .map((name) => ({ path: name, bytes: readFileSync(path.join(root, name)) }))
    .filter(({ bytes }) => !bytes.subarray(0, 8_192).includes(0))
    .map(({ path, bytes }) => ({ path, text: bytes.toString("utf8") }));
}

/** TypeScript sources of the packages. */
export function packageSources(): SourceFile[] {
  return repositoryFiles().filter((file) => packages.some((name) => file.path.startsWith(`${name}/src/`)) && /\.tsx?$/.test(file.path));
}

export function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " ")).replace(/(^|[\s;])\/\/.*$/gm, "$1");
}

/** Static, dynamic and re-exporting imports. */
export function importsOf(text: string): Import[] {
  const statements = /(?:^|\n)\s*(import|export)\s+(type\s)?([^"';]*?from\s*)?"([^"]+)"/g;
  const found = [...text.matchAll(statements)].map((match) => {
    const named = /^\{([^}]*)\}\s*from/.exec((match[3] ?? "").trim())?.[1];
    const onlyTypes = named?.split(",").every((name) => name.trim() === "" || name.trim().startsWith("type "));
    return { specifier: match[4] ?? "", typeOnly: match[2] !== undefined || onlyTypes === true };
  });
  const calls = [...withoutComments(text).matchAll(/\bimport\(\s*"([^"]+)"/g)].map((match) => ({
    specifier: match[1] ?? "",
    typeOnly: false,
  }));
  return [...found, ...calls];
}

/** The file that a relative import means, from the root; undefined for packages. */
export function resolveImport(from: string, specifier: string): string | undefined {
  return specifier.startsWith(".") ? path.posix.normalize(path.posix.join(path.posix.dirname(from), specifier)) : undefined;
}

/** "@scope/name/part" → "@scope/name". */
export function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}
