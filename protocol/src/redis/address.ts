/**
 * Where the store is and how it is spoken to, read from its address: one server, a master that sentinels know, or a cluster.
 * Pure: files of certificates are read by the caller.
 */

import { createPrivateKey, X509Certificate } from "node:crypto";

export interface RedisNode {
  host: string;
  port: number;
}

export interface RedisAddress {
  form: "standalone" | "sentinel" | "cluster";
  tls: boolean;
  /** The server; or sentinels, or nodes of the cluster, of which one that answers is enough. */
  nodes: RedisNode[];
  username?: string;
  password?: string;
  db: number;
  /** What the sentinels call it. */
  masterName?: string;
  sentinelUsername?: string;
  sentinelPassword?: string;
}

/** Texts of PEM files. */
export interface RedisTls {
  /** Who signed the servers' certificates; absent: whom Node trusts. */
  ca?: string;
  /** The certificate that is shown to servers, and its key. */
  cert?: string;
  key?: string;
}

/** The store as it is configured; an address alone where nothing else is set. */
export type RedisTarget = string | { url: string; tls: RedisTls };

export const redisAddressForms =
  "redis://host:port, redis+sentinel://host:port,host:port/master-name or redis+cluster://host:port,host:port; rediss for TLS";

const usualPort = { standalone: 6379, sentinel: 26_379, cluster: 6379 } as const;

/** Undefined when it is no address of a known form. A text may be a secret: nobody repeats it. */
export function readRedisAddress(text: string): RedisAddress | undefined {
  const match = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^/?#]*)@)?([^@/?#]+)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(text);
  if (!match) return undefined;
  const [, secure, named, userInfo = "", hosts = "", path = "", query = ""] = match;
  const form = (named ?? "standalone") as RedisAddress["form"];
  const nodes = hosts.split(",").map((part) => nodeIn(part, usualPort[form]));
  const [first = "", second = "", ...more] = path.split("/");
  const [masterName, dbText] = form === "sentinel" ? [decoded(first), second] : [undefined, first];
  const isPathRight = more.length === 0 && (form === "sentinel" ? masterName !== "" : second === "");
  const parameters = new URLSearchParams(query);
  const known = form === "sentinel" ? ["sentinel_user", "sentinel_password"] : [];
  const isRight =
    nodes.every((node) => node !== undefined) &&
    (form !== "standalone" || nodes.length === 1) &&
    isPathRight &&
    /^\d{0,5}$/.test(dbText) &&
    (form !== "cluster" || Number(dbText) === 0) && // a cluster has one database
    [...parameters.keys()].every((name) => known.includes(name));
  if (!isRight) return undefined;
  const [user = "", ...password] = userInfo.split(":");
  const words = {
    username: decoded(user),
    password: decoded(password.join(":")),
    masterName,
    sentinelUsername: parameters.get("sentinel_user") ?? "",
    sentinelPassword: parameters.get("sentinel_password") ?? "",
  };
  const given = Object.fromEntries(Object.entries(words).filter(([, word]) => word !== undefined && word !== ""));
  return { form, tls: secure === "s", nodes: nodes as RedisNode[], db: Number(dbText), ...given };
}

function nodeIn(text: string, otherwise: number): RedisNode | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? otherwise);
  return host === undefined || port > 65_535 ? undefined : { host, port };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a percent sign that means itself
  }
}

/** A target taken apart. Throws for an address that configuration would have refused. */
export function redisPlace(target: RedisTarget): RedisAddress & { tlsFiles: RedisTls } {
  const { url, tls } = typeof target === "string" ? { url: target, tls: {} } : target;
  const address = readRedisAddress(url);
  if (!address) throw new Error(`the address of Redis: expected ${redisAddressForms}, got something else`);
  return { ...address, tlsFiles: tls };
}

export const nodeText = ({ host, port }: RedisNode): string => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

/** For people: without user and password. */
export function shownAddress(target: RedisTarget): string {
  const { form, masterName, nodes, tls } = redisPlace(target);
  const scheme = `redis${tls ? "s" : ""}${form === "standalone" ? "" : `+${form}`}`;
  return `${scheme}://${nodes.map(nodeText).join(",")}${masterName === undefined ? "" : `/${masterName}`}`;
}

/** The settings that name files, as SWITCHYARD_ variables are called. */
export const redisFileNames = ["REDIS_CA", "REDIS_CERT", "REDIS_KEY"] as const;
export type RedisFileName = (typeof redisFileNames)[number];

/**
 * Reads the files that are named and checks them with the address. `read` throws what the system says. Answers their texts and every
 * mistake, by setting, in the words "expected …".
 */
export function readRedisTls(
  files: Partial<Record<RedisFileName, string>>,
  { isTls, read }: { isTls: boolean | undefined; read: (path: string) => string },
): { tls: RedisTls; mistakes: [RedisFileName, string][] } {
  const mistakes: [RedisFileName, string][] = [];
  const texts: Partial<Record<RedisFileName, string>> = {};
  for (const name of redisFileNames) {
    const path = files[name];
    if (path === undefined) continue;
    if (isTls === false) mistakes.push([name, "expected nothing, because the address of Redis does not begin with rediss"]);
    try {
      const text = read(path);
      if (name === "REDIS_KEY") createPrivateKey(text);
      else new X509Certificate(text);
      texts[name] = text;
    } catch (error) {
      const what = name === "REDIS_KEY" ? "a private key without a passphrase" : "a certificate";
      mistakes.push([name, `expected a readable PEM file with ${what}, got ${(error as Error).message.split("\n")[0]}`]);
    }
  }
  if (files.REDIS_CERT !== undefined && files.REDIS_KEY === undefined) {
    mistakes.push(["REDIS_CERT", "expected its private key in SWITCHYARD_REDIS_KEY too, got nothing"]);
  }
  if (files.REDIS_KEY !== undefined && files.REDIS_CERT === undefined) {
    mistakes.push(["REDIS_KEY", "expected its certificate in SWITCHYARD_REDIS_CERT too, got nothing"]);
  }
  const { REDIS_CA: ca, REDIS_CERT: cert, REDIS_KEY: key } = texts;
  if (cert !== undefined && key !== undefined && !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    mistakes.push(["REDIS_KEY", "expected the private key of the certificate in SWITCHYARD_REDIS_CERT, got another one"]);
  }
  return { tls: { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }, mistakes };
}
