/**
 * A server of tools as a process of its own: in a group of its own, which ends as a whole, with an environment that has nothing of ours, and
 * with what it says bounded in size and speed. Should this process be killed, a watch of a few hundred kilobytes ends the group.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { isAbsolute } from "node:path";
import type { Clock } from "../clock.ts";
import { freeChild } from "./child-cores.ts";
import { Pace, type PaceLimits, usualPace } from "./paced-bytes.ts";

export interface ToolProcessSettings {
  command: string;
  args: readonly string[];
  /** Beyond the short list that every server gets. */
  env: Readonly<Record<string, string>>;
  cwd?: string;
  /** Longest line that it may write. */
  maxLineBytes: number;
}

export interface ToolProcessEvents {
  /** One message, a line of its standard output. Answers whether somebody waits for it. */
  line(text: string): boolean;
  /** A piece of what it wrote to standard error, at most so many a second. */
  said(text: string): void;
  /** Once, when it has ended or was given up: why. */
  ended(why: string): void;
  /** It was told to end, in every way that there is, and has not: why. It is left to itself. */
  remains(why: string): void;
}

/** What a program needs to run at all, and that is no secret. */
const safeVariables = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM"];

export function toolEnvironment(
  own: Readonly<Record<string, string>>,
  ours: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of safeVariables) {
    const value = ours[name];
    if (value !== undefined && !value.startsWith("()")) env[name] = value;
  }
  return { ...env, ...own };
}

/** After the end of its input, and again after SIGTERM. */
const graceMs = 2_000;
/** Unwritten requests that a server which does not read may pile up here. */
const mostUnwrittenBytes = 16 << 20;
const mostSaidChars = 2_000;
/** Standard error is for people. */
const saidPace: PaceLimits = { burstBytes: 1 << 20, bytesPerSecond: 65_536, burstMessages: 50, messagesPerSecond: 5 };
/** What a process has written is read for so long after its end. */
const lastWordsMs = 500;
/** Of what nobody waits for. Slower than a server is read, so that a flood owes more and more. */
const strayPace: PaceLimits = {
  ...usualPace,
  bytesPerSecond: usualPace.bytesPerSecond / 2,
  messagesPerSecond: usualPace.messagesPerSecond / 2,
};
const messagesATurn = 50;
const nothing = Buffer.alloc(0);
/** A server that has sent more than that for so long is not coming to an end. One that answers much is only slowed down. */
const longestFloodMs = 30_000;

/** Ends the group when its input closes, which it does with the process that holds the other end. */
const watchEnvironment = { PATH: "/usr/bin:/bin" };
const watchScript = 'read -r _; kill -s TERM -- "-$1"; sleep 2; kill -s KILL -- "-$1"';

export class ToolProcess {
  readonly #events: ToolProcessEvents;
  readonly #clock: Clock;
  readonly #settings: ToolProcessSettings;
  readonly #pace: Pace;
  readonly #strayPace: Pace;
  readonly #saidPace: Pace;
  #child: ChildProcess | undefined;
  #watch: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #hasEnded = false;
  /** Of the line that has not come whole yet. */
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  /** What has come and was not looked at. */
  #unread: Buffer = nothing;
  /** For how long nothing more should be read. */
  #owedMs = 0;
  #floodSinceMs: number | undefined;
  #closing: Promise<void> | undefined;
  /** Why it could not be sent a signal. */
  #unkilled: string | undefined;

  constructor(settings: ToolProcessSettings, events: ToolProcessEvents, clock: Clock) {
    this.#settings = settings;
    this.#events = events;
    this.#clock = clock;
    this.#pace = new Pace(clock.monotonicMs());
    this.#strayPace = new Pace(clock.monotonicMs(), strayPace);
    this.#saidPace = new Pace(clock.monotonicMs(), saidPace);
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Rejects when the program cannot be started. */
  start(): Promise<void> {
    const { args, command, cwd, env } = this.#settings;
    const child = spawn(command, [...args], {
      env: toolEnvironment(env, process.env),
      stdio: ["pipe", "pipe", "pipe"],
      detached: true, // a group of its own
      ...(cwd !== undefined && { cwd }),
    });
    freeChild(child.pid);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        this.#killGroup("SIGKILL"); // what it has started does not outlive it
        const end = (): void => this.#end(signal === null ? `it ended with code ${code}` : `it was ended by ${signal}`);
        child.once("close", end); // its last words are read before
        this.#clock.after(lastWordsMs, end);
        resolve();
      });
      child.once("error", () => resolve());
    });
    child.stdin?.on("error", () => {}); // the end of the process says it
    child.stdout?.on("error", () => {});
    child.stderr?.on("error", () => {});
    child.stdout?.on("data", (chunk: Buffer) => this.#onOutput(chunk));
    child.stderr?.on("data", (chunk: Buffer) => this.#onSaid(chunk));
    return new Promise((resolve, reject) => {
      child.once("spawn", () => {
        this.#startWatch(child.pid!);
        resolve();
      });
      child.once("error", (error: NodeJS.ErrnoException) => {
        const isAbsent = error.code === "ENOENT";
        const hint = isAbsent ? ` (${isAbsolute(command) ? "no such file" : "not on the PATH"}, or its folder does not exist)` : "";
        const why = `the program cannot be started: ${error.code ?? error.message}${hint}`;
        this.#end(why);
        reject(new Error(why));
      });
    });
  }

  /** Resolves when it is written, or at once while the pipe is full: what is outstanding is bounded. */
  write(line: string): Promise<void> {
    const stdin = this.#child?.stdin;
    if (this.#hasEnded || !stdin?.writable) return Promise.reject(new Error("the process has ended"));
    if (stdin.writableLength + line.length > mostUnwrittenBytes) {
      this.#giveUp("it does not read what is sent to it");
      return Promise.reject(new Error("the process does not read"));
    }
    stdin.write(line);
    return Promise.resolve();
  }

  /** End of input, then SIGTERM, then SIGKILL, to the whole group; resolves when the process is gone, or does not go. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.stdin?.end();
    let isGone = false;
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      isGone = await this.#isGoneWithin(graceMs);
      if (isGone) break;
      this.#killGroup(signal);
    }
    // one that runs as somebody else, or that the kernel holds, does not hold us
    if (!isGone && !(await this.#isGoneWithin(graceMs)))
      this.#events.remains(`process group ${child.pid} does not end (${this.#unkilled ?? "SIGKILL was sent"})`);
    this.#end("it was ended");
  }

  async #isGoneWithin(ms: number): Promise<boolean> {
    const late = new AbortController();
    const gone = this.#exited.then(() => true);
    const isGone = await Promise.race([gone, this.#clock.sleep(ms, late.signal).then(() => false)]);
    late.abort();
    return isGone;
  }

  #killGroup(signal: NodeJS.Signals): void {
    const pid = this.#child?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== "ESRCH") this.#unkilled = code; // that one says that nobody is left
    }
  }

  /** Its writes wait in its pipe while what came is not read through. */
  #onOutput(chunk: Buffer): void {
    if (this.#hasEnded) return;
    this.#unread = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    this.#owedMs = this.#pace.take({ bytes: chunk.length, messages: 0 }, this.#clock.monotonicMs());
    this.#readOn();
  }

  /** A chunk may hold thousands of messages: only so many are read in one turn of the event loop. */
  #readOn(): void {
    for (let messages = 0; !this.#hasEnded; ) {
      const end = this.#unread.indexOf(0x0a);
      if (end === -1) break;
      const line = this.#unread.subarray(0, end);
      this.#unread = this.#unread.subarray(end + 1);
      if (!this.#onLine(line)) continue;
      messages++;
      this.#owedMs = this.#pace.take({ bytes: 0, messages: 1 }, this.#clock.monotonicMs());
      if (this.#owedMs === 0 && messages < messagesATurn) continue;
      this.#pauseThen(() => this.#readOn());
      return;
    }
    if (this.#hasEnded) return;
    if (this.#unread.length > 0) this.#keep(this.#unread);
    this.#unread = nothing;
    if (this.#owedMs > 0) this.#pauseThen(() => this.#child?.stdout?.resume());
    else this.#child?.stdout?.resume();
  }

  #pauseThen(goOn: () => void): void {
    this.#child?.stdout?.pause();
    const waitMs = this.#owedMs;
    this.#owedMs = 0;
    this.#clock.after(waitMs, goOn);
  }

  #onStray(came: { bytes: number; messages: number }): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#strayPace.take(came, nowMs) === 0) this.#floodSinceMs = undefined;
    else this.#floodSinceMs ??= nowMs;
    if (this.#floodSinceMs !== undefined && nowMs - this.#floodSinceMs > longestFloodMs) this.#giveUp("it floods its output");
  }

  #keep(piece: Buffer): void {
    const { maxLineBytes } = this.#settings;
    this.#pieceBytes += piece.length;
    if (this.#pieceBytes > maxLineBytes) this.#giveUp(`it sent a message of more than ${maxLineBytes} bytes`);
    else this.#pieces.push(piece);
  }

  /** Whether it was a message, by its beginning: what programs print where they should not is passed over. */
  #onLine(last: Buffer): boolean {
    this.#keep(last);
    if (this.#hasEnded) return false;
    const line = this.#pieces.length === 1 ? last : Buffer.concat(this.#pieces, this.#pieceBytes);
    this.#pieces = [];
    this.#pieceBytes = 0;
    const isMessage = line[0] === 0x7b;
    const isAsked = isMessage && this.#events.line(line.toString("utf8"));
    if (!isAsked) this.#onStray({ bytes: line.length, messages: isMessage ? 1 : 0 });
    return isMessage;
  }

  /** Pieces, not lines: whatever it writes. */
  #onSaid(chunk: Buffer): void {
    const text = chunk.toString("utf8", 0, mostSaidChars).trim();
    if (text !== "") this.#events.said(text);
    const waitMs = this.#saidPace.take({ bytes: chunk.length, messages: 1 }, this.#clock.monotonicMs());
    if (waitMs === 0) return;
    const stderr = this.#child?.stderr;
    stderr?.pause();
    this.#clock.after(waitMs, () => stderr?.resume());
  }

  #giveUp(why: string): void {
    if (this.#hasEnded) return;
    this.#killGroup("SIGKILL");
    this.#end(why);
  }

  #end(why: string): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#pieces = [];
    this.#unread = nothing;
    this.#child?.stdout?.destroy();
    this.#child?.stderr?.destroy();
    void this.#exited.then(() => this.#watch?.kill("SIGKILL"));
    this.#events.ended(why);
  }

  #startWatch(pid: number): void {
    const watch = spawn("/bin/sh", ["-c", watchScript, "sh", String(pid)], {
      env: watchEnvironment,
      stdio: ["pipe", "ignore", "ignore"],
      detached: true,
    });
    watch.on("error", () => {}); // without a shell there is none
    watch.stdin?.on("error", () => {});
    watch.unref();
    this.#watch = watch;
  }
}
