import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { repositoryFiles, root } from "./source-files.ts";

/** Headings as anchors: lower case, no punctuation, dashes for blanks. */
function anchorsOf(text: string): Set<string> {
  const headings = [...text.replace(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.+)$/gm)];
  return new Set(
    headings.map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

test("links between the repository's pages lead somewhere", () => {
  const pages = repositoryFiles().filter(({ path: file }) => file.endsWith(".md"));
  let checked = 0;
  const broken: string[] = [];
  for (const page of pages) {
    for (const [, target = ""] of page.text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      checked++;
      const [file = "", anchor] = target.split("#");
      const found = file === "" ? page.path : path.posix.normalize(path.posix.join(path.posix.dirname(page.path), file));
      const other = pages.find(({ path: name }) => name === found);
      if (!existsSync(path.join(root, found))) broken.push(`${page.path} → ${target}: there is no such file`);
      else if (anchor !== undefined && other !== undefined && !anchorsOf(other.text).has(anchor))
        broken.push(`${page.path} → ${target}: there is no such heading`);
    }
  }
  assert.ok(checked > 10, `only ${checked} links were found`);
  assert.deepEqual(broken, []);
});
