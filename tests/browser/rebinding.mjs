// Goes to the engine under a name that was pointed to this machine. Tells the status of each address.

import { run } from "./browser.mjs";

run(async (browser, { addresses }) => {
  const page = await browser.newPage();
  const statuses = [];
  for (const address of addresses) {
    statuses.push((await page.goto(address)).status());
  }
  return statuses;
});
