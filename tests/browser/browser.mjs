// A browser for one script: `main` gets it and what the test said on the command line, and what it
// returns is printed as one line of JSON.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.BROWSER_TEST_NODE_MODULES}/`);
const { chromium } = require("playwright-core");

export async function run(main) {
  const browser = await chromium.launch({
    executablePath: process.env.BROWSER_TEST_CHROMIUM,
    headless: true,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // Names that an attacker pointed to this machine.
      "--host-resolver-rules=MAP *.test 127.0.0.1",
    ],
  });
  try {
    const result = await main(browser, JSON.parse(process.argv[2]));
    console.log(JSON.stringify(result));
  } finally {
    await browser.close();
  }
}
