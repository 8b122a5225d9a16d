// Uses the board as a person does, in Chromium: node board.mjs PAGE FOLDER; prints one JSON object.
// Needs playwright-core and axe-core beside NODE_PATH's first folder. Choices and screenshots go to the folder.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.NODE_PATH.split(":")[0]}/`);
const { chromium } = require("playwright-core");
const [file, folder] = process.argv.slice(2);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
});
const found = { faults: [], errors: [], foreign: [] };

async function open(colorScheme, width) {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme, acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("request", (one) => { if (!/^(file|data|blob):/.test(one.url())) found.foreign.push(one.url()); });
  page.on("console", (one) => { if (one.type() === "error") found.errors.push(one.text()); });
  page.on("pageerror", (error) => found.errors.push(String(error)));
  await page.goto(pathToFileURL(file).href);
  const session = await context.newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: axe });  // past the page's own policy
  const { violations } = await page.evaluate(() => window.axe.run());
  for (const { id, nodes } of violations) found.faults.push(`${colorScheme}: ${id}: ${nodes[0].html}`);
  return page;
}

try {
  const page = await open("light", 1000);
  found.sentences = await page.locator("fieldset").count();
  await page.keyboard.press("j");  // the keyboard alone: the first sentence, its second take
  await page.keyboard.press("2");
  found.chosen = await page.evaluate(() => {
    const input = document.activeElement;
    return { key: input.name, candidate: Number(input.value), checked: input.checked };
  });
  await page.keyboard.press("p");
  await page.waitForFunction(() => [...document.querySelectorAll("audio")].some((one) => one.currentTime > 0.1 || one.ended));
  found.played = await page.evaluate(() => [...document.querySelectorAll("audio")].findIndex((one) => one.currentTime > 0));
  found.told = await page.textContent("#count");
  await page.screenshot({ path: `${folder}/board.png` });
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  found.name = download.suggestedFilename();
  await download.saveAs(`${folder}/${found.name}`);
  const dark = await open("dark", 390);
  found.overflow = await dark.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await dark.screenshot({ path: `${folder}/board_dark.png` });
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));
