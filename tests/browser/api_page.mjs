// Opens the page of the API, and tries `GET /api/status` there. Tells what it shows, and what went wrong.

import { run } from "./browser.mjs";

run(async (browser, { engine, token, screenshot }) => {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
  const wrong = [];
  page.on("console", (message) => {
    if (message.type() === "error") wrong.push(message.text());
  });
  page.on("pageerror", (error) => wrong.push(String(error)));
  await page.goto(`${engine}/api/docs/`);
  await page.waitForSelector(".opblock");
  if (token) {
    await page.click(".btn.authorize");
    await page.fill(".modal-ux input", token);
    await page.click(".modal-ux .btn.authorize");
    await page.click(".modal-ux .btn-done");
  }
  const operation = page.locator(".opblock", {
    has: page.locator('[data-path="/api/status"]'),
  });
  await operation.locator(".opblock-summary-control").click();
  await operation.locator(".try-out__btn").click();
  await operation.locator(".execute").click();
  const live = operation.locator(".live-responses-table");
  const status = await live.locator("tbody .response-col_status").first().innerText();
  const answer = await live.locator("tbody .response-col_description .microlight").first().innerText();
  if (screenshot) await page.screenshot({ path: screenshot });
  return { status: status.trim(), answer, operations: await page.locator(".opblock").count(), wrong };
});
