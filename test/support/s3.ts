/**
 * A real server of the S3 protocol for a test: versitygw over a temporary folder, where each object is a file. The program on PATH, else the pinned
 * version built by Go into the project's cache, once. A machine without either has none, and the reason is told, so that tests can say why they skip.
 */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { createServer as createHttpServer, request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { until } from "./until.ts";

const version = "v1.8.0";
const cache = fileURLToPath(new URL("../../.cache/go", import.meta.url));
/** A first build takes two minutes on two cores. */
const buildMs = 600_000;
const mostAttempts = 5;
const run = promisify(execFile);

/** What the SDK finds its credentials by. */
export const testS3Credentials = { AWS_ACCESS_KEY_ID: "test-key", AWS_SECRET_ACCESS_KEY: "test-secret", AWS_EC2_METADATA_DISABLED: "true" };

export interface TestS3 extends AsyncDisposable {
  endpoint: string;
  bucket: string;
  /** What the SDK finds its credentials by. */
  env: Record<string, string>;
  /** Where the bucket's objects lie as files, under their keys. */
  folder: string;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

const children = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});

/** One bucket, empty. */
export async function startTestS3(): Promise<TestS3 | { missing: string }> {
  const program = await findProgram();
  if ("missing" in program) return program;
  for (let attempt = 1; ; attempt++) {
    const started = await start(program.file);
    if ("folder" in started) return started;
    if (attempt === mostAttempts) throw new Error(`the S3 server ended ${attempt} times while it started, and said: ${started.said}`);
  }
}

/** Answers what it said if it ended by itself: its port may have been taken meanwhile. */
async function start(file: string): Promise<TestS3 | { said: string }> {
  const root = await mkdtemp(path.join(tmpdir(), "switchyard-s3-"));
  const [objects, notes, bucket] = [path.join(root, "objects"), path.join(root, "notes"), "switchyard-test"];
  await mkdir(path.join(objects, bucket), { recursive: true });
  await mkdir(notes);
  const port = await freePort();
  const env = testS3Credentials;
  const child = spawn(file, ["--port", `127.0.0.1:${port}`, "--quiet", "--health", "/health", "posix", "--sidecar", notes, objects], {
    env: { PATH: process.env.PATH, ROOT_ACCESS_KEY_ID: env.AWS_ACCESS_KEY_ID, ROOT_SECRET_ACCESS_KEY: env.AWS_SECRET_ACCESS_KEY },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => {
      output = `${output}${chunk}`.slice(-10_000);
    });
  const ended = new AbortController();
  child.once("exit", () => ended.abort());
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const endpoint = `http://127.0.0.1:${port}`;
  // who has the port in its place may never answer
  const health = (): Promise<Response | undefined> => fetch(`${endpoint}/health`, { signal: ended.signal }).catch(() => undefined);
  const answers = async (): Promise<boolean> => (await health())?.ok || ended.signal.aborted;
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
    children.delete(child);
    await rm(root, { recursive: true, force: true });
  };
  await until("the S3 server to answer", answers, { show: () => output }).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  if (ended.signal.aborted) {
    await stop();
    return { said: output };
  }
  const signal = (name: NodeJS.Signals): void => void child.kill(name);
  return { endpoint, bucket, env, folder: path.join(objects, bucket), signal, stop, [Symbol.asyncDispose]: stop };
}

/** Another way to the server: each request waits for `pass` first. */
export async function startGate(
  endpoint: string,
  pass: (method: string, key: string) => Promise<void>,
): Promise<AsyncDisposable & { url: string }> {
  const { hostname, port } = new URL(endpoint);
  const gate = createHttpServer(async (incoming, answer) => {
    const { headers, method = "", url = "" } = incoming;
    await pass(method, url);
    // with the same Host header, which is signed
    const outgoing = request({ hostname, port, method, path: url, headers }, (answered) => {
      answer.writeHead(answered.statusCode ?? 502, answered.headers);
      answered.pipe(answer);
    });
    outgoing.on("error", () => answer.destroy());
    incoming.pipe(outgoing);
  });
  gate.listen(0, "127.0.0.1");
  await once(gate, "listening");
  const stop = async (): Promise<void> => {
    gate.closeAllConnections();
    gate.close();
  };
  return { url: `http://127.0.0.1:${(gate.address() as AddressInfo).port}`, [Symbol.asyncDispose]: stop };
}

async function findProgram(): Promise<{ file: string } | { missing: string }> {
  const onPath = (process.env.PATH ?? "")
    .split(path.delimiter)
    .map((folder) => path.join(folder, "versitygw"))
    .find((file) => existsSync(file));
  if (onPath) return { file: onPath };
  const file = path.join(cache, `versitygw-${version}`);
  if (existsSync(file)) return { file };
  await mkdir(cache, { recursive: true });
  const part = await mkdtemp(path.join(cache, ".part-"));
  try {
    const env = { ...process.env, GOBIN: part, CGO_ENABLED: "0" };
    await run("go", ["install", `github.com/versity/versitygw/cmd/versitygw@${version}`], { env, cwd: part, timeout: buildMs });
    await rename(path.join(part, "versitygw"), file); // in one step: another process may be building it, too
    return { file };
  } catch (error) {
    const { code, message, stderr = "" } = error as Error & { code?: string; stderr?: string };
    if (code === "ENOENT") return { missing: "no S3 server: versitygw is not on PATH, and there is no go to build it with" };
    return { missing: `no S3 server: versitygw could not be built: ${(stderr.trim() || message).split("\n").at(-1)}` };
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
