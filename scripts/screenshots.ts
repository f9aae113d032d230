/**
 * `npm run screenshots`: pictures of the console for README and docs, of a cluster of its own under a small load. Writes docs/images/; needs a
 * Chromium, which is fetched where the distribution has one.
 */

import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { startBrowser, watchedPage } from "../test/support/browser.ts";
import { startCluster } from "../test/support/cluster.ts";

const folder = fileURLToPath(new URL("../docs/images", import.meta.url));
const loadMs = 75_000; // a minute of figures, and a little
const headers = { "content-type": "application/json" };

const browser = await startBrowser();
if (typeof browser === "string") {
  console.error(`No pictures: ${browser}`);
  process.exit(1);
}
await mkdir(folder, { recursive: true });
const cluster = await startCluster({ env: { SWITCHYARD_HOST_ID: "host-a" } });
try {
  const job = (more: object) =>
    JSON.stringify({ model: "digits", inputs: [{ name: "image", datatype: "FP32", shape: [1, 64], data: image() }], ...more });
  const send = (more: object): Promise<unknown> => fetch(`${cluster.url}/v1/jobs`, { method: "POST", headers, body: job(more) });
  const untilMs = performance.now() + loadMs;
  for (let count = 0; performance.now() < untilMs; count++) {
    const wave = 4 + Math.round(3 * Math.sin(count / 40));
    await Promise.all(
      Array.from({ length: wave }, (_, at) =>
        send({ class: at % 3 === 0 ? "interactive" : "standard", tags: { batch: `night-${count % 5}` } }),
      ),
    );
    if (count % 25 === 0) await send({ timeout_ms: 1 });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const { page } = await watchedPage(browser, cluster.url, { deviceScaleFactor: 1 });
  const shoot = async (name: string, hash: string, ready: string): Promise<void> => {
    await page.goto(`${cluster.url}/${hash}`);
    await page.locator(ready).first().waitFor();
    await page.waitForTimeout(500);
    await page.screenshot({ path: path.join(folder, `console-${name}.png`) });
    console.log(`docs/images/console-${name}.png`);
  };
  await shoot("overview", "#/overview", ".chart canvas");
  await shoot("hosts", "#/hosts", ".card");
  await page.goto(`${cluster.url}/#/models/digits`);
  await draw();
  await page.getByTestId("class").waitFor();
  await page.waitForTimeout(300);
  await page.screenshot({ path: path.join(folder, "console-try.png") });
  await page.locator(".answer a").click();
  await page.emulateMedia({ colorScheme: "dark" });
  await page.locator(".detail .ranked").first().waitFor();
  await page.waitForTimeout(500);
  await page.screenshot({ path: path.join(folder, "console-job.png") });
  await page.setViewportSize({ width: 390, height: 800 });
  await shoot("phone", "#/overview", ".chart canvas");

  async function draw(): Promise<void> {
    const box = await page.getByRole("img", { name: /Drawing board/ }).boundingBox();
    if (!box) throw new Error("there is no board to draw on");
    const points = [
      [0.29, 0.13],
      [0.54, 0.09],
      [0.67, 0.25],
      [0.47, 0.47],
      [0.69, 0.69],
      [0.51, 0.92],
      [0.27, 0.85],
    ] as const;
    for (const [at, [x, y]] of points.entries()) {
      await page.mouse.move(box.x + x * box.width, box.y + y * box.height, { steps: 8 });
      if (at === 0) await page.mouse.down();
    }
    await page.mouse.up();
  }
} finally {
  await browser.close();
  await cluster.stop();
}

/** Ink in the middle, differently each time. */
function image(): number[] {
  return Array.from({ length: 64 }, (_, at) => (at % 8 > 1 && at % 8 < 6 ? Math.floor(Math.random() * 17) : 0));
}
