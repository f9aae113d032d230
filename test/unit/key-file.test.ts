/** The coordinator's view of its key file, look by look. */

import assert from "node:assert/strict";
import { chmod, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { digestOfSecret } from "@switchyard/protocol/api-keys";
import { KeyFile, readKeyFile } from "../../coordinator/src/adapters/key-file.ts";
import { keyFileFindings } from "../../coordinator/src/embedded/key-file-check.ts";
import type { LogFields } from "../../coordinator/src/ports/log.ts";

const folder = await mkdtemp(path.join(tmpdir(), "switchyard-keys-"));

let files = 0;
async function fileWith(text: string): Promise<string> {
  const file = path.join(folder, `keys-${++files}.yaml`);
  await writeFile(file, text, { mode: 0o600 });
  return file;
}

function entry(id: string, more = ""): string {
  return `- id: ${id}\n  sha256: ${digestOfSecret(id)}\n  tenant: red\n  weight: 1\n  scopes: [submit]\n${more}`;
}

async function opened(text: string) {
  const file = await fileWith(text);
  const logged: { event: string; fields: LogFields | undefined }[] = [];
  const log = (event: string, fields?: LogFields): void => void logged.push({ event, fields });
  const keys = new KeyFile({ path: file, log: { info: log, warn: log, error: log } });
  return { file, keys, logged, events: () => logged.map(({ event }) => event) };
}

describe("the key file", () => {
  after(() => rm(folder, { recursive: true, force: true }));

  test("mistakes name the file and the line", async () => {
    const file = await fileWith(
      `# ours\n${entry("one")}${entry("two").replace("weight: 1", "weight: 0").replace("[submit]", "[submit, root]")}`,
    );
    const read = readKeyFile(file);
    assert.ok("mistakes" in read);
    assert.deepEqual(
      read.mistakes.map((mistake) => mistake.split(": expected")[0]),
      [`${file}:10: entry 2 (two): weight`, `${file}:11: entry 2 (two): scopes[1]`],
    );
    const missing = readKeyFile(path.join(folder, "none.yaml"));
    assert.ok("mistakes" in missing && /expected a readable file, got ENOENT/.test(missing.mistakes[0]!));
    const broken = readKeyFile(await fileWith("- id: [\n"));
    assert.ok("mistakes" in broken && /not valid YAML: .* at line \d/.test(broken.mistakes[0]!));
    for (const text of [
      ...["- &a [*a]\n", "&a [*a]", "- &a {id: *a}\n", `- id: ${"[".repeat(100)}${"]".repeat(100)}\n`],
      ...[`${"[".repeat(50_000)}${"]".repeat(50_000)}`, `${"- ".repeat(50_000)}x`],
    ]) {
      const read = readKeyFile(await fileWith(text));
      assert.ok("mistakes" in read, text.slice(0, 20));
      assert.match(read.mistakes.join(), /: expected at most 64 levels, and no alias inside of what it stands for$/);
    }
    const laughs = Array.from({ length: 9 }, (_, at) => `- &l${at + 1} [${`*l${at},`.repeat(9)}]\n`).join("");
    const bomb = readKeyFile(await fileWith(`- &l0 [lol]\n${laughs}`));
    assert.ok("mistakes" in bomb && /not valid YAML: Excessive alias count/.test(bomb.mistakes[0]!));
    const shared = await fileWith(`${entry("one", "  models: &m [digits]\n")}${entry("two", "  models: *m\n")}`);
    assert.ok("entries" in readKeyFile(shared), "an alias that leads elsewhere is one");
    const twice = readKeyFile(await fileWith(`${entry("one")}  weight: 2\n`));
    assert.ok("mistakes" in twice && /not valid YAML: Map keys must be unique/.test(twice.mistakes[0]!));
  });

  test("a key is found by its secret alone", async () => {
    const { keys } = await opened(entry("one", "  models: [digits]\n  expires: 2030-01-01\n"));
    assert.deepEqual(keys.find("one"), {
      id: "one",
      tenant: "red",
      weight: 1,
      scopes: new Set(["submit"]),
      models: new Set(["digits"]),
      expiresMs: Date.UTC(2030, 0, 1),
    });
    for (const other of ["", "One", digestOfSecret("one"), "one ", "x".repeat(100_000)]) assert.equal(keys.find(other), undefined);
  });

  test("a changed file is taken over by the second look that sees it, so that half a file is not", async () => {
    const { file, keys, events } = await opened(entry("one"));
    await keys.look();
    assert.deepEqual(events(), []);
    await writeFile(file, entry("two"));
    await keys.look();
    assert.ok(keys.find("one"), "it may still be written to");
    await writeFile(file, entry("two") + entry("three"));
    await keys.look();
    assert.ok(keys.find("one"));
    await keys.look();
    assert.deepEqual([keys.find("one"), keys.find("two")?.id, keys.find("three")?.id], [undefined, "two", "three"]);
    assert.deepEqual(events(), ["api_keys_read"]);
    await writeFile(`${file}.new`, entry("four"));
    await rename(`${file}.new`, file);
    await keys.look();
    await keys.look();
    assert.deepEqual(
      keys.all().map(({ id }) => id),
      ["four"],
    );
  });

  test("a broken file, an emptied one and a deleted one leave the keys as they were, and each is told once", async () => {
    const { file, keys, logged, events } = await opened(entry("one"));
    const looks = async (): Promise<void> => {
      for (let look = 0; look < 4; look++) await keys.look();
    };
    await writeFile(file, entry("two").replace("weight: 1", "weight: no"));
    await looks();
    assert.deepEqual(events(), ["api_keys_kept"]);
    assert.match(String(logged[0]!.fields?.message), /:4: entry 1 \(two\): weight: expected a number, got "no"/);
    await writeFile(file, "");
    await looks();
    await rm(file);
    await looks();
    assert.deepEqual(events(), ["api_keys_kept", "api_keys_kept", "api_keys_kept"]);
    assert.match(String(logged[2]!.fields?.message), /ENOENT/);
    assert.ok(keys.find("one"));
    await writeFile(file, "[]\n");
    await looks();
    assert.deepEqual([events().at(-1), keys.all()], ["api_keys_read", []]);
  });

  test("without a usable file nothing starts", async () => {
    await assert.rejects(
      opened(entry("one") + entry("one")),
      /the API keys cannot be used:\n {2}.*:6: entry 2 \(one\): id: expected an id of its own/,
    );
  });

  test("doctor tells of mistakes, of a file that others may write, and of keys that end soon or have ended", async () => {
    const nowMs = Date.UTC(2030, 0, 10);
    const states = (file: string | undefined) => keyFileFindings(file, nowMs).map(({ state, found }) => `${state}: ${found}`);
    assert.deepEqual(states(undefined), ["ok: no key file: one tenant, on loopback addresses only"]);
    const good = await fileWith(entry("one", "  expires: 2030-02-10\n"));
    assert.deepEqual(states(good), [`ok: 1 key of 1 tenant in ${good}`]);
    const ending = await fileWith(entry("one", "  expires: 2030-01-09\n") + entry("two", "  expires: 2030-01-20\n") + entry("three"));
    await chmod(ending, 0o664);
    assert.deepEqual(states(ending), [
      `warning: ${ending} has mode 0664: others than its owner may write it, and so make keys`,
      "warning: expired: one (2030-01-09)",
      "warning: expire within 14 days: two (2030-01-20)",
    ]);
    assert.match(states(await fileWith("[]"))[0]!, /^warning: 0 keys of 0 tenants/);
    assert.match(states(path.join(folder, "none.yaml"))[0]!, /^missing: .*ENOENT/);
  });
});
