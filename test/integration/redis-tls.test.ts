/** Redis with TLS and a user for each role, as docs/redis.md writes them: a real coordinator and worker over it, and what each user may not do. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, test } from "node:test";
import { keys, queueTag } from "@switchyard/protocol/redis";
import { readConfig } from "../../coordinator/src/config.ts";
import { storeFindings } from "../../coordinator/src/embedded/store-check.ts";
import { readConfig as readWorkerConfig } from "../../worker/src/config.ts";
import { call, floats, jobView } from "../support/calls.ts";
import { startProcesses } from "../support/processes.ts";
import {
  ask,
  keysFor,
  makeCertificates,
  noCertificates,
  RedisFarm,
  type Secured,
  startRedisCluster,
  startSentinels,
} from "../support/redis-forms.ts";

const guide = readFileSync(new URL("../../docs/redis.md", import.meta.url), "utf8");
/** The two lines of the guide, with passwords of this test. */
const users = (/<!-- acl:[^>]*-->\n```\n([\s\S]*?)\n```/.exec(guide)?.[1] ?? "")
  .replace("change-me-1", "first-secret")
  .replace("change-me-2", "second-secret");
const sentinelUser = (/<!-- sentinel acl:[^>]*-->\n```\n([\s\S]*?)\n```/.exec(guide)?.[1] ?? "").replace("change-me-3", "third-secret");
const inputs = [floats("image", [1, 64], new Float32Array(64))];

/** A coordinator and a worker with the users of their roles; answers what the servers refused them. */
async function smoke(secured: Secured, address: (user: string) => string): Promise<void> {
  const { ca, client } = secured.certificates;
  const files = { SWITCHYARD_REDIS_CA: ca, SWITCHYARD_REDIS_CERT: client.cert, SWITCHYARD_REDIS_KEY: client.key };
  await using cluster = await startProcesses({
    env: { ...files, SWITCHYARD_REDIS_URL: address("switchyard-coordinator:first-secret") },
    workerEnv: { SWITCHYARD_REDIS_URL: address("switchyard-worker:second-secret") },
  });
  const answers = await Promise.all(Array.from({ length: 20 }, () => call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs } })));
  for (const answer of answers) assert.equal(answer.status, 200, `${answer.bytes}\n${cluster.log()}`);
  assert.doesNotMatch(cluster.log(), /NOPERM|NOAUTH/);
}

async function refusals(ports: readonly number[], secured: Secured): Promise<string[]> {
  const logs = await Promise.all(ports.map((port) => ask(port, (redis) => redis.call("ACL", "LOG"), keysFor(secured))));
  return (logs as unknown[][][]).flat().map((entry) => entry.map(String).join(" "));
}

describe("Redis with TLS and users", { concurrency: 3 }, () => {
  test("an inference is answered over TLS by a coordinator and a worker that are users of their own, and each is refused what is not its role's", {
    skip: noCertificates,
  }, async (t) => {
    await using farm = await RedisFarm.open();
    const certificates = await makeCertificates(farm.folder);
    const aclFile = path.join(farm.folder, "users.acl");
    await writeFile(aclFile, `user default off\nuser admin on >admin-secret ~* &* +@all\n${users}\n`);
    const { server, client, ca } = certificates;
    const tls = [`tls-cert-file ${server.cert}`, `tls-key-file ${server.key}`, `tls-ca-cert-file ${ca}`, "tls-auth-clients yes"];
    const redis = await farm.start("tls", (port) => ["port 0", `tls-port ${port}`, ...tls, `aclfile ${aclFile}`]);
    const address = (user: string, password: string): string => `rediss://${user}:${password}@127.0.0.1:${redis.port}`;
    const files = { SWITCHYARD_REDIS_CA: ca, SWITCHYARD_REDIS_CERT: client.cert, SWITCHYARD_REDIS_KEY: client.key };
    const coordinatorUrl = address("switchyard-coordinator", "first-secret");
    await using cluster = await startProcesses({
      env: { ...files, SWITCHYARD_REDIS_URL: coordinatorUrl },
      workerEnv: { SWITCHYARD_REDIS_URL: address("switchyard-worker", "second-secret") },
    });
    const answer = await call(`${cluster.url}/v2/models/digits/infer`, { body: { inputs } });
    assert.equal(answer.status, 200, `${answer.bytes}\n${cluster.log()}`);
    const headers = { "idempotency-key": "once" };
    const submitted = await call(`${cluster.url}/v1/jobs`, { body: { model: "digits", inputs }, headers });
    assert.equal(submitted.status, 202);
    const { id } = submitted.json();
    assert.equal((await jobView(cluster.url, id, 10)).state, "succeeded");
    assert.equal((await call(`${cluster.url}/v1/jobs/${id}`, { method: "DELETE" })).status < 500, true);
    assert.equal((await call(`${cluster.url}/v1/jobs`)).json().items.length, 2);

    const secured = { tls: { ca: readFileSync(ca), cert: readFileSync(client.cert), key: readFileSync(client.key) } };
    const as = (username: string, password: string) => ({ ...secured, username, password });
    const worker = as("switchyard-worker", "second-secret");
    const coordinator = as("switchyard-coordinator", "first-secret");
    const refused = async (who: object, ...words: [string, ...string[]]): Promise<void> => {
      const shown = words.join(" ");
      await assert.rejects(
        ask(redis.port, (asked) => asked.call(...words), who),
        /NOPERM/,
        shown,
      );
    };
    const tenantKey = await ask(redis.port, async (asked) => (await asked.keys("sy:{tenant-*"))[0], as("admin", "admin-secret"));
    assert.ok(tenantKey, "the idempotency key is not in the store");
    for (const words of [["flushall"], ["flushdb"], ["keys", "*"], ["config", "get", "*"], ["shutdown"], ["acl", "list"]] as const) {
      await refused(worker, ...(words as unknown as [string]));
      await refused(coordinator, ...(words as unknown as [string]));
    }
    await refused(worker, "get", tenantKey);
    await refused(worker, "set", keys.hostToken, "another");
    await refused(worker, "hset", keys.models, "digits@1", "{}");
    await refused(worker, "del", keys.placement);
    await refused(worker, "scan", "0");
    await refused(worker, "get", "elsewhere");
    await refused(coordinator, "get", "elsewhere");
    await refused(worker, "publish", "elsewhere", "x");
    await refused(worker, "eval", "return redis.call('GET', KEYS[1])", "1", tenantKey);
    const inputKey = keys.input(queueTag("digits", "x"), "y");
    assert.equal(await ask(redis.port, (asked) => asked.get(inputKey), worker), null, "a worker must read inputs");

    // what was refused to our own processes would stand here
    const denied = await ask(redis.port, (asked) => asked.call("ACL", "LOG"), as("admin", "admin-secret"));
    const texts = (denied as unknown[][]).map((entry) => entry.map(String).join(" "));
    assert.ok(texts.length > 5, "what this test tried is in the log");
    const unforeseen = texts.filter((text) => /\bname=\S/.test(text)); // this test's own clients have no names
    assert.deepEqual(unforeseen, []);

    const config = readConfig({ argv: [], env: { ...files, SWITCHYARD_REDIS_URL: coordinatorUrl } });
    const findings = await storeFindings(config, undefined);
    assert.deepEqual(
      findings.filter(({ state }) => state !== "ok"),
      [],
    );
    for (const { subject, found } of findings) t.diagnostic(`doctor: ${subject}: ${found}`);
  });

  test("sentinels and the servers they watch are spoken to over TLS, each by the user that is meant for it", {
    skip: noCertificates,
  }, async () => {
    await using farm = await RedisFarm.open();
    const secured = { certificates: await makeCertificates(farm.folder), users, sentinelUsers: sentinelUser };
    const { master, url } = await startSentinels(farm, { downAfterMs: 5_000, secured });
    await smoke(secured, (user) => `${url.replace("://", `://${user}@`)}?sentinel_user=switchyard&sentinel_password=third-secret`);
    assert.deepEqual(await refusals([master.port], secured), []);
  });

  test("a cluster is spoken to over TLS, by the users of the roles", { skip: noCertificates }, async () => {
    await using farm = await RedisFarm.open();
    const secured = { certificates: await makeCertificates(farm.folder), users };
    const { nodes, url } = await startRedisCluster(farm, { secured });
    await smoke(secured, (user) => url.replace("://", `://${user}@`));
    const ports = nodes.map(({ port }) => port);
    assert.deepEqual(await refusals(ports, secured), []);
  });

  test("a server whose certificate another authority signed is refused in words, and so is a client without a certificate", {
    skip: noCertificates,
  }, async () => {
    await using farm = await RedisFarm.open();
    const [ours, theirs] = await Promise.all(
      ["ours", "theirs"].map(async (name) => {
        const folder = path.join(farm.folder, name);
        await mkdir(folder);
        return makeCertificates(folder);
      }),
    );
    const { server, ca } = ours!;
    const tls = [`tls-cert-file ${server.cert}`, `tls-key-file ${server.key}`, `tls-ca-cert-file ${ca}`];
    const redis = await farm.start("tls", (port) => ["port 0", `tls-port ${port}`, ...tls, "tls-auth-clients yes"]);
    const look = async (env: Record<string, string>) => {
      const config = readConfig({ argv: [], env: { ...env, SWITCHYARD_REDIS_URL: `rediss://127.0.0.1:${redis.port}` } });
      return (await storeFindings(config, undefined))[0]!;
    };
    const wrong = await look({ SWITCHYARD_REDIS_CA: theirs!.ca });
    assert.equal(wrong.state, "missing");
    assert.match(wrong.found, /certificate/i);
    assert.equal((await look({ SWITCHYARD_REDIS_CA: ca })).state, "missing");
    const shown = { SWITCHYARD_REDIS_CERT: ours!.client.cert, SWITCHYARD_REDIS_KEY: ours!.client.key };
    assert.equal((await look({ SWITCHYARD_REDIS_CA: ca, ...shown })).state, "ok");
  });

  test("files that cannot be used are told at start, all at once, by coordinator and worker alike", { skip: noCertificates }, async () => {
    await using farm = await RedisFarm.open();
    const { ca, client, server } = await makeCertificates(farm.folder);
    const told = (env: Record<string, string>): string[] =>
      [readConfig, readWorkerConfig].map((read) => {
        try {
          read({ argv: [], env });
          return "";
        } catch (error) {
          return (error as Error).message;
        }
      });
    const url = "rediss://127.0.0.1:6379";
    for (const text of told({ SWITCHYARD_REDIS_URL: url, SWITCHYARD_REDIS_CA: "/nowhere.pem", SWITCHYARD_REDIS_CERT: client.key })) {
      assert.match(text, /REDIS_CA.*expected a readable PEM file with a certificate, got ENOENT/);
      assert.match(text, /REDIS_CERT.*expected a readable PEM file with a certificate/);
      assert.match(text, /REDIS_CERT.*expected its private key in SWITCHYARD_REDIS_KEY too/);
    }
    for (const text of told({ SWITCHYARD_REDIS_URL: url, SWITCHYARD_REDIS_CERT: client.cert, SWITCHYARD_REDIS_KEY: server.key })) {
      assert.match(text, /REDIS_KEY.*expected the private key of the certificate in SWITCHYARD_REDIS_CERT, got another one/);
    }
    for (const text of told({ SWITCHYARD_REDIS_URL: "redis://127.0.0.1:6379", SWITCHYARD_REDIS_CA: ca })) {
      assert.match(text, /REDIS_CA.*expected nothing, because the address of Redis does not begin with rediss/);
    }
    assert.deepEqual(told({ SWITCHYARD_REDIS_URL: url, SWITCHYARD_REDIS_CA: ca }), ["", ""]);
  });

  test("doctor says that a password is wrong, without repeating it", async () => {
    await using farm = await RedisFarm.open();
    const redis = await farm.start("plain", (port) => [`port ${port}`, "requirepass right"]);
    const config = readConfig({ argv: [], env: { SWITCHYARD_REDIS_URL: `redis://:wrong@127.0.0.1:${redis.port}` } });
    const [finding] = await storeFindings(config, undefined);
    assert.equal(finding!.state, "missing");
    assert.doesNotMatch(JSON.stringify(finding), /wrong@/);
  });
});
