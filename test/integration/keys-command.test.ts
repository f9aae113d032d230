/** `switchyard keys` on files of its own; no server is there. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, realpath, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { readKeyFile } from "../../coordinator/src/adapters/key-file.ts";
import { cliMain } from "../support/cluster.ts";
import { type CommandOutcome, startCommandHost } from "../support/command-host.ts";

const folder = await mkdtemp(path.join(tmpdir(), "switchyard-keys-command-"));
const unset = { SWITCHYARD_URL: "http://127.0.0.1:1", SWITCHYARD_API_KEYS: "" };
const commands = startCommandHost(unset);
after(async () => {
  await commands.stop();
  await rm(folder, { recursive: true, force: true });
});
const at = (name: string): string => path.join(folder, name);
const digest = (secret: string): string => createHash("sha256").update(secret).digest("hex");

function keys(args: readonly string[], env: Record<string, string> = {}): Promise<CommandOutcome> {
  return commands.run(["keys", ...args], { env });
}

/** In a process of its own, beside others. */
function keysProcess(args: readonly string[]): Promise<CommandOutcome> {
  const child = spawn(process.execPath, [cliMain, "keys", ...args], {
    env: { ...process.env, ...unset },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const outcome: CommandOutcome = { code: null, out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    outcome.out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    outcome.err += text;
  });
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...outcome, code })));
}

/** What a coordinator makes of the file. */
function entriesIn(file: string) {
  const read = readKeyFile(file);
  assert.ok("entries" in read, JSON.stringify(read));
  return read.entries;
}

/** Each on a file of its own. */
describe("switchyard keys", { concurrency: 3 }, () => {
  test("a new key is printed with its entry, which a coordinator takes as it stands", async () => {
    const { code, out } = await keys([
      "new",
      "--tenant",
      "red",
      "--weight",
      "2.5",
      "--scopes",
      "submit,operate",
      "--models",
      "digits,scaler",
    ]);
    assert.equal(code, 0);
    const [, secret] = /^ {2}(swy_\w{43})$/m.exec(out) ?? [];
    const entry = out.slice(out.indexOf("- id:"));
    assert.doesNotMatch(entry, /swy_/);
    await writeFile(at("pasted.yaml"), entry);
    const [made] = entriesIn(at("pasted.yaml"));
    const { id, ...rest } = made!;
    assert.match(id, /^red-\w{6}$/);
    assert.deepEqual(rest, {
      sha256: digest(secret!),
      tenant: "red",
      weight: 2.5,
      scopes: ["submit", "operate"],
      models: ["digits", "scaler"],
    });
  });

  test("with --file the entry is appended, the file is its owner's alone, and only the secret is printed", async () => {
    const file = at("made.yaml");
    const first = await keys(["new", "--tenant", "red", "--weight", "3", "--file", file, "--expires", "90d"]);
    assert.deepEqual([first.code, /^swy_\w{43}\n$/.test(first.out)], [0, true], first.err);
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const second = JSON.parse((await keys(["new", "--tenant", "red", "--id", "red-two", "--file", file, "--json"])).out);
    const [one, two] = entriesIn(file);
    assert.equal(one!.sha256, digest(first.out.trim()));
    const days = (Date.parse(one!.expires!) - Date.now()) / 86_400_000;
    assert.ok(days > 89.9 && days <= 90, `${days} days`);
    assert.deepEqual({ secret: second.secret, ...two }, second);
    assert.deepEqual([two!.id, two!.weight, two!.scopes], ["red-two", 3, ["submit", "read"]], "a tenant's further key has its weight");
    assert.doesNotMatch(await readFile(file, "utf8"), /swy_/);
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith("made.yaml.")),
      [],
    );
  });

  test("comments, mode and links of a file outlive a change", async () => {
    const file = at("kept.yaml");
    await writeFile(file, "# ours, see the wiki\n\n[] # none yet\n", { mode: 0o640 });
    await symlink(file, at("link.yaml"));
    assert.equal((await keys(["new", "--tenant", "red", "--id", "one", "--file", at("link.yaml")])).code, 0);
    await writeFile(file, (await readFile(file, "utf8")).replace("- id: one", "# for the night run\n- id: one"));
    assert.equal((await keys(["new", "--tenant", "blue", "--id", "two", "--file", at("link.yaml")])).code, 0);
    assert.equal((await keys(["revoke", "two", "--file", at("link.yaml")])).code, 0);
    const text = await readFile(file, "utf8");
    assert.match(text, /# ours, see the wiki/);
    assert.match(text, /# for the night run\n- id: one/);
    assert.equal((await stat(file)).mode & 0o777, 0o640);
    assert.equal(await realpath(at("link.yaml")), await realpath(file));
  });

  test("keys made at once by many are all in the file", async () => {
    const file = at("crowd.yaml");
    const made = await Promise.all(
      ["a", "b", "c", "d", "e", "f"].map((tenant) => keysProcess(["new", "--tenant", tenant, "--file", file])),
    );
    for (const { code, err } of made) assert.equal(code, 0, err);
    assert.deepEqual(
      entriesIn(file)
        .map(({ tenant }) => tenant)
        .sort(),
      ["a", "b", "c", "d", "e", "f"],
    );
  });

  test("keys are listed and revoked by id, in the file that the environment names", async () => {
    const file = at("listed.yaml");
    await keys(["new", "--tenant", "red", "--id", "one", "--file", file, "--scopes", "read"]);
    await keys(["new", "--tenant", "blue", "--id", "two", "--file", file, "--models", "digits"]);
    await writeFile(file, `${await readFile(file, "utf8")}  expires: 2001-01-01\n`);
    const environment = { SWITCHYARD_API_KEYS: file };
    const { out } = await keys(["list"], environment);
    assert.match(out, /^one +red +1 +read +all +never$/m);
    assert.match(out, /^two +blue +1 +submit,read +digits +2001-01-01 \(expired\)$/m);
    const lines = (await keys(["list", "--file", file, "--json"])).out.trim().split("\n");
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      entriesIn(file),
    );
    assert.equal((await keys(["revoke", "one"], environment)).code, 0);
    assert.deepEqual(
      entriesIn(file).map(({ id }) => id),
      ["two"],
    );
    const again = await keys(["revoke", "one"], environment);
    assert.deepEqual([again.code, /has no key one/.test(again.err)], [4, true]);
    assert.equal((await keys(["revoke", "two"], environment)).code, 0);
    assert.deepEqual(entriesIn(file), []);
  });

  test("a wrong wish is refused by the option's name, all at once, and changes no file", async () => {
    const file = at("refused.yaml");
    const wrong = await keys(["new", "--tenant", "a b", "--weight", "0", "--scopes", "submit,root", "--models", "../x", "--file", file]);
    assert.equal(wrong.code, 2);
    for (const option of ["--tenant", "--weight", "--scopes[1]", "--models[0]"])
      assert.ok(wrong.err.includes(`${option}: expected`), wrong.err);
    for (const expires of ["2001-01-01", "soon", "0d", "2030-02-30"]) {
      const { code, err } = await keys(["new", "--tenant", "red", "--expires", expires, "--file", file]);
      assert.deepEqual([code, /--expires: expected/.test(err)], [2, true], `${expires}: ${err}`);
    }
    assert.equal((await keys(["new", "--file", file])).code, 2);
    assert.deepEqual(
      (await readdir(folder)).filter((name) => name.startsWith("refused")),
      [],
    );
    await keys(["new", "--tenant", "red", "--id", "one", "--file", file]);
    const before = await readFile(file, "utf8");
    assert.match((await keys(["new", "--tenant", "blue", "--id", "one", "--file", file])).err, /--id: expected an id of its own/);
    assert.match(
      (await keys(["new", "--tenant", "red", "--weight", "2", "--file", file])).err,
      /--weight: expected 1, the weight of tenant red/,
    );
    assert.equal(await readFile(file, "utf8"), before);
  });

  test("a file with mistakes is not made worse, and a missing one is said to be missing", async () => {
    const file = at("broken.yaml");
    await writeFile(file, "- id: one\n");
    const { code, err } = await keys(["new", "--tenant", "red", "--file", file]);
    assert.deepEqual(
      [code, /broken\.yaml has mistakes:\n.*entry 1 \(one\): sha256: expected text, got nothing/s.test(err)],
      [2, true],
      err,
    );
    assert.equal(await readFile(file, "utf8"), "- id: one\n");
    const levels = Array.from(
      { length: 9 },
      (_, level) =>
        `  - &a${level + 1} [${Array(9)
          .fill(level === 0 ? "x" : `*a${level}`)
          .join(", ")}]`,
    );
    await writeFile(file, `- id:\n${levels.join("\n")}\n`);
    const bomb = await keys(["list", "--file", file]);
    assert.deepEqual([bomb.code, /broken\.yaml refers to itself more often/.test(bomb.err)], [2, true], bomb.err);
    assert.match((await keys(["list", "--file", at("none.yaml")])).err, /cannot read .*none\.yaml/);
    assert.match((await keys(["list"])).err, /give --file, or set SWITCHYARD_API_KEYS/);
  });
});
