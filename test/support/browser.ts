/** A page of the console in a headless Chromium, watched: what it asked of whom, what its policy refused, what went wrong in it. */

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { findChromium } from "./chromium.ts";

export interface WatchedPage {
  page: Page;
  /** Requests to other servers than the console's own. */
  foreign: string[];
  /** Violations of the content security policy. */
  violations: string[];
  /** Errors that no code caught. */
  errors: string[];
  /** Bytes of scripts as they were sent, by address. */
  scripts: Map<string, number>;
}

/** The browser, or why there is none. */
export async function startBrowser(): Promise<Browser | string> {
  const found = await findChromium();
  if (typeof found === "string") return found;
  try {
    return await chromium.launch({
      executablePath: found.path,
      env: { ...(process.env as Record<string, string>), ...found.env },
      // containers let no sandbox be made; the pages are ours
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-prefers-reduced-motion"],
    });
  } catch (error) {
    return `chromium does not start: ${(error as Error).message.split("\n", 1)[0]}`;
  }
}

export async function watchedPage(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const watched: WatchedPage = { page, foreign: [], violations: [], errors: [], scripts: new Map() };
  page.setDefaultTimeout(30_000);
  page.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(`${url}/`)) watched.foreign.push(request.url());
  });
  page.on("pageerror", (error) => watched.errors.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy|Trusted ?Type/i.test(message.text())) watched.violations.push(message.text());
  });
  page.on("requestfinished", async (request) => {
    if (request.resourceType() !== "script") return;
    const { responseBodySize } = await request.sizes();
    watched.scripts.set(request.url(), responseBodySize);
  });
  return watched;
}
