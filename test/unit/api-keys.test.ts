import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { type ApiKeyEntry, checkKeyFile, digestOfSecret, expiryMs, secretOf } from "@switchyard/protocol/api-keys";

const digest = (secret: string): string => createHash("sha256").update(secret).digest("hex");

function entry(wishes: Record<string, unknown> = {}): ApiKeyEntry {
  return { id: "red-1", sha256: digest("red"), tenant: "red", weight: 1, scopes: ["submit"], ...wishes } as ApiKeyEntry;
}

function mistakes(document: unknown): string[] {
  const checked = checkKeyFile(document);
  assert.ok("mistakes" in checked, "the file was accepted");
  return checked.mistakes.map(({ text }) => text);
}

test("a right key file is read as it stands, and an empty list lets nobody in", () => {
  const entries = [
    entry(),
    entry({ id: "red-2", sha256: digest("red 2"), scopes: ["read", "operate"], models: ["digits"], expires: "2030-01-31T12:00:00+02:00" }),
    entry({ id: "blue", sha256: digest("blue"), tenant: "blue", weight: 0.25, expires: "2030-01-31" }),
  ];
  assert.deepEqual(checkKeyFile(entries), { entries });
  assert.deepEqual(checkKeyFile([]), { entries: [] });
});

test("each mistake in a key file is told with its entry, its field, what was expected and what came", () => {
  const cases: [Record<string, unknown>, string][] = [
    [
      { id: "a b" },
      'id: expected an id of at most 96 characters: letters, digits, dots, dashes and underscores, beginning with a letter or digit, got "a b"',
    ],
    [{ id: undefined }, "id: expected text, got nothing"],
    [{ sha256: "ABC" }, "sha256: expected 64 lower-case hexadecimal digits, the SHA-256 of the secret, got another text of 3 characters"],
    [
      { tenant: "a:b" },
      'tenant: expected a name of at most 63 characters: letters, digits, dots, dashes and underscores, beginning with a letter or digit, got "a:b"',
    ],
    [
      { tenant: "" },
      'tenant: expected a name of at most 63 characters: letters, digits, dots, dashes and underscores, beginning with a letter or digit, got ""',
    ],
    [{ weight: 0 }, "weight: expected a number from 0.000001 to 1000000, got 0"],
    [{ weight: -1 }, "weight: expected a number from 0.000001 to 1000000, got -1"],
    [{ weight: Number.POSITIVE_INFINITY }, "weight: expected a number, got Infinity"],
    [{ weight: Number.NaN }, "weight: expected a number, got NaN"],
    [{ weight: "2" }, 'weight: expected a number, got "2"'],
    [{ scopes: [] }, "scopes: expected at least 1 entries, got []"],
    [{ scopes: ["submit", "root"] }, 'scopes[1]: expected one of submit, read, operate, admin, got "root"'],
    [{ models: ["../x"] }, 'models[0]: expected a model\'s name, got "../x"'],
    [
      { expires: "tomorrow" },
      'expires: expected an RFC 3339 time such as 2030-01-31T12:00:00Z, or a date, which ends at its beginning, got "tomorrow"',
    ],
    [
      { expires: "2030-02-30" },
      'expires: expected an RFC 3339 time such as 2030-01-31T12:00:00Z, or a date, which ends at its beginning, got "2030-02-30"',
    ],
    [{ scope: ["read"] }, "scope: unknown key; expected one of id, sha256, tenant, weight, scopes, models, expires"],
  ];
  for (const [wishes, text] of cases) {
    const named = typeof wishes.id === "string" || "id" in wishes ? "" : " (red-1)";
    assert.deepEqual(mistakes([entry(wishes)]), [`entry 1${named}: ${text}`]);
  }
  assert.deepEqual(mistakes(null), ["expected a list, got null"]);
  assert.deepEqual(mistakes({ keys: [] }), ['expected a list, got {"keys":[]}']);
});

test("all mistakes of a key file are told at once, in the order of its entries, contradictions included", () => {
  const found = mistakes([
    entry(),
    entry({ weight: 0, scopes: ["root"] }),
    entry({ sha256: digest("another"), tenant: "blue" }),
    entry({ id: "red-4", weight: 3 }),
    "red-5",
  ]);
  assert.deepEqual(found, [
    "entry 2 (red-1): weight: expected a number from 0.000001 to 1000000, got 0",
    'entry 2 (red-1): scopes[0]: expected one of submit, read, operate, admin, got "root"',
    "entry 3 (red-1): id: expected an id of its own, got red-1, which entry 1 has",
    "entry 4 (red-4): sha256: expected a secret of its own, got that of entry 1",
    "entry 4 (red-4): weight: expected 1, the weight of tenant red in entry 1, got 3",
    'entry 5: expected a mapping, got "red-5"',
  ]);
});

test("a secret that was put where its digest belongs is not repeated", () => {
  const secret = secretOf(randomBytes(32));
  for (const document of [[entry({ sha256: secret })], [secret], [entry({ id: [secret] })], { key: secret }, [entry({ models: secret })]]) {
    const [text] = mistakes(document);
    assert.doesNotMatch(text!, new RegExp(secret.slice(0, 12)), text);
  }
});

test("an end that is no time is refused, and a date ends at its beginning", () => {
  assert.equal(expiryMs("2030-01-31"), Date.UTC(2030, 0, 31));
  assert.equal(expiryMs("2030-01-31T12:00:00Z"), Date.UTC(2030, 0, 31, 12));
  assert.equal(expiryMs("2030-01-31T12:00:00.250+02:00"), Date.UTC(2030, 0, 31, 10, 0, 0, 250));
  assert.equal(expiryMs("2028-02-29"), Date.UTC(2028, 1, 29));
  for (const text of ["", "2030", "2030-13-01", "2029-02-29", "2030-01-31 12:00", "2030-01-31T25:00:00Z", "2030-01-31T12:00:00", "1e9"]) {
    assert.equal(expiryMs(text), undefined, text);
  }
});

test("secrets carry all of their 256 bits behind a prefix, and are known by their SHA-256", () => {
  const [none, all] = [secretOf(new Uint8Array(32)), secretOf(new Uint8Array(32).fill(255))];
  assert.equal(none, `swy_${"0".repeat(43)}`);
  const value = [...all.slice(4)].reduce((sum, digit) => sum * 62n + BigInt(numberOf(digit)), 0n);
  assert.equal(value, 2n ** 256n - 1n);
  const secret = secretOf(randomBytes(32));
  assert.match(secret, /^swy_[0-9A-Za-z]{43}$/);
  assert.equal(digestOfSecret(secret), digest(secret));
});

function numberOf(digit: string): number {
  return "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".indexOf(digit);
}
