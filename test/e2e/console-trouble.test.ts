/**
 * The console when something is wrong: a slow answer, a route that fails, jobs that refuse, a store that is full or away. A real cluster and a
 * real browser; where a refusal cannot be had on demand, it is put in the server's place. Without a Chromium all of it is skipped, and says so.
 */

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { HostView, JobView, RequeuedView } from "@switchyard/protocol";
import type { Browser, Page, Route } from "playwright-core";
import { holderOf } from "../../coordinator/src/embedded/process-lock.ts";
import { startBrowser, type WatchedPage, watchedPage } from "../support/browser.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { until } from "../support/until.ts";

const found = await startBrowser();
const browser: Browser | undefined = typeof found === "string" ? undefined : found;
const skip = typeof found === "string" ? `no browser: ${found}` : false;
let cluster: Cluster;
let watched: WatchedPage;
let page: Page;

before(async () => {
  if (!browser) return;
  cluster = await startCluster();
  watched = await watchedPage(browser, cluster.url);
  page = watched.page;
});

after(async () => {
  await browser?.close();
  await cluster?.stop();
});

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  const answer = await fetch(cluster.url + path, init);
  assert.ok(answer.status < 300, `${path}: ${answer.status} ${await answer.clone().text()}`);
  return (await answer.json()) as T;
}

const open = (hash: string) => page.goto(`${cluster.url}/${hash}`);
const heading = (name: string) => page.getByRole("heading", { level: 1, name });
const away = () => page.locator("p.away");
const refuse = (code: string, detail: string, status: number) => (route: Route) => route.fulfill({ status, json: { code, detail } });

const image = { name: "image", datatype: "FP32", shape: [1, 64], data: Array.from({ length: 64 }, (_, at) => at % 17) };

function submit(tag: string): Promise<JobView> {
  const body = JSON.stringify({ model: "digits", inputs: [image], tags: { test: tag }, timeout_ms: 600_000 });
  return ask("/v1/jobs", { method: "POST", headers: { "content-type": "application/json" }, body });
}

test("an answer that takes longer than it is between two beats is shown all the same", { skip }, async () => {
  const slowMs = 4_500; // beats are a second or two apart
  await page.route("**/v1/queues", async (route) => {
    await sleep(slowMs);
    await route.continue().catch(() => {}); // the page has asked anew
  });
  await open("#/queues");
  await heading("Queues").waitFor();
  await page.locator("main .quiet", { hasText: /^…$/ }).waitFor({ state: "detached", timeout: 20_000 });
  await page.unroute("**/v1/queues");
});

test("a route that fails leaves what it answered before, and says that it is old and why", { skip }, async () => {
  await open("#/hosts");
  const host = page.getByRole("article", { name: /^Host / });
  await host.waitFor();
  await page.route("**/v1/hosts", refuse("internal", "the list is broken", 500));
  const notice = page.getByText("What is shown is not current: the list is broken");
  await notice.waitFor();
  assert.equal(await host.count(), 1);
  await page.unroute("**/v1/hosts");
  await notice.waitFor({ state: "detached" });
});

test("jobs of a selection that refuse are told, the others are cancelled, and nothing offers a retry that can only fail", {
  skip,
}, async () => {
  const hosts = async () => (await ask<{ items: HostView[] }>("/v1/hosts")).items;
  const [host] = await hosts();
  await ask(`/v1/hosts/${host?.id}/drain`, { method: "POST" });
  await until("the drain", async () => (await hosts())[0]?.state === "draining");
  const jobs = [await submit("selection"), await submit("selection"), await submit("selection")];
  const [cancelled, faster] = jobs.map(({ id }) => id);
  await open("#/jobs?tag=test%3Dselection");
  for (const { id } of jobs) await page.getByLabel(`Select ${id}`).check();
  const tooLate = refuse("job_already_ended", "The job has already ended: succeeded", 409);
  await page.route(`**/v1/jobs/${faster}`, (route) => (route.request().method() === "DELETE" ? tooLate(route) : route.continue()));
  await page.getByRole("button", { name: "Cancel 3 selected" }).click();
  await page.getByText("Done: 2. Refused: 1; the first, because: The job has already ended: succeeded [job_already_ended].").waitFor();
  await until("the list to show it", async () => (await page.locator(".grid .body .state.cancelled").count()) === 2);
  assert.equal(
    await page.locator(".grid .row[aria-selected=true]").getAttribute("id"),
    `row-${faster}`,
    "it can be seen which one refused",
  );
  await page.unroute(`**/v1/jobs/${faster}`);
  await page.getByLabel(`Select ${cancelled}`).check();
  assert.equal(await page.getByRole("button", { name: /^Retry/ }).count(), 0, "its inputs went with its end");
  await open(`#/jobs/${cancelled}?tag=test%3Dselection`);
  const detail = page.getByRole("article", { name: `Job ${cancelled}` });
  await detail.locator(".timeline .cancelled").waitFor();
  assert.equal(await detail.getByRole("button", { name: /^Retry/ }).count(), 0);
  await ask(`/v1/hosts/${host?.id}/drain`, { method: "DELETE" });
  await until("the host", async () => (await hosts())[0]?.state === "ready");
});

test("requeuing ends when the store is full or does not answer, and says how many were done and refused, and why", { skip }, async () => {
  const asked: string[] = [];
  const error = { code: "store_full", detail: "no memory left", retryable: true };
  await page.route("**/v1/dead-letters:requeue?*", (route) => {
    const isCount = route.request().url().includes("dry_run=true");
    if (!isCount) asked.push(route.request().url());
    const [requeued, refused] = isCount ? [2, 0] : [0, 1];
    const view: RequeuedView = { requeued, refused, items: [{ id: "one", ...(!isCount && { error }) }], links: {} };
    if (!isCount) view.links.next = "/v1/dead-letters:requeue?limit=200&cursor=0";
    return route.fulfill({ json: view });
  });
  await open("#/dead");
  await page.getByRole("button", { name: "Requeue all that match" }).click();
  await page.getByRole("button", { name: "Requeue 2 jobs" }).click();
  await page.getByText("Done: 0. Refused: 1; the first, because: no memory left [store_full].").waitFor();
  assert.equal(asked.length, 1);
  await page.getByRole("button", { name: "Close" }).click();
  await page.unroute("**/v1/dead-letters:requeue?*");

  // a page that fails after another was done: both are told
  await page.route("**/v1/dead-letters:requeue?*", (route) => {
    const url = route.request().url();
    if (url.includes("cursor=1")) return refuse("internal", "the second page is broken", 500)(route);
    const next = "/v1/dead-letters:requeue?limit=200&cursor=1";
    const view: RequeuedView = { requeued: 1, refused: 0, items: [], links: url.includes("dry_run=true") ? {} : { next } };
    return route.fulfill({ json: view });
  });
  await page.getByRole("button", { name: "Requeue all that match" }).click();
  await page.getByRole("button", { name: "Requeue 1 job" }).click();
  await page.getByRole("dialog").getByText("the second page is broken").waitFor();
  await page.getByText("Done: 1.").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.unroute("**/v1/dead-letters:requeue?*");
});

test("an output that is class indexes is read as these, and scores of several items each by itself", { skip }, async () => {
  let output: object = {};
  await page.route("**/v1/jobs", async (route) => {
    if (route.request().method() !== "POST") return route.continue();
    const answer = await route.fetch();
    const job = (await answer.json()) as JobView;
    await route.fulfill({ response: answer, json: { ...job, result: { outputs: [{ name: "probabilities", ...output }] } } });
  });
  await open("#/models/digits");
  const run = page.locator(".try").getByRole("button", { name: "Run" });
  const read = page.getByTestId("class");
  const ranks = page.locator(".try .ranked");
  output = { datatype: "INT64", shape: [1], data: [3] };
  await run.click();
  await page.getByText("It is 3").waitFor();
  assert.deepEqual([await read.textContent(), await ranks.locator("li span").allTextContents()], ["3", ["3"]]);
  const scores = (best: number): number[] => Array.from({ length: 10 }, (_, at) => (at === best ? 0.91 : 0.01));
  output = { datatype: "FP32", shape: [2, 10], data: [...scores(7), ...scores(2)] };
  await run.click();
  await page.getByText("They are 7, 2").waitFor();
  assert.equal(await ranks.count(), 2);
  assert.equal(await ranks.nth(1).locator("li > span").first().textContent(), "2");
  await page.unroute("**/v1/jobs");
});

test("while the store is away a line says that what is shown is not current, and a page that is opened says what is wrong", {
  skip,
}, async () => {
  const redis = holderOf(path.join(cluster.dataFolder, "redis", "redis.pid"));
  assert.ok(redis);
  await open("#/overview");
  await page.locator(".stat").first().waitFor();
  process.kill(redis, "SIGSTOP");
  try {
    await away().getByText("What is shown is not current").waitFor();
    await page.reload();
    await heading("Overview").waitFor();
    const fault = page.locator("main").getByRole("alert");
    await fault.getByText("store_unavailable").waitFor();
    await away().getByText("What is shown is not current").waitFor();
    for (let at = 0; at < 40; at++) {
      assert.match((await away().textContent()) ?? "", /not current/, "it does not come and go with each try");
      await sleep(100);
    }
  } finally {
    process.kill(redis, "SIGCONT");
  }
  await page.locator(".stat").first().waitFor();
  await until("the line to go", async () => (await away().textContent()) === "");
  assert.deepEqual(watched.errors, []);
});
