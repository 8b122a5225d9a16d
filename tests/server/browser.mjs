// Uses the page as a person does, in Chromium: node browser.mjs URL CLIP PICTURES
// Needs playwright-core and axe-core beside NODE_PATH's first folder, and a chromium. Prints one JSON object.
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_PATH.split(":")[0]}/`);
const { chromium } = require("playwright-core");
const [url, clip, pictures] = process.argv.slice(2);
const axe = require.resolve("axe-core/axe.min.js");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream"],
});
const found = { steps: [], faults: [], foreign: [], errors: [] };
const context = await browser.newContext({ viewport: { width: 1100, height: 900 }, bypassCSP: false });
const page = await context.newPage();
page.setDefaultTimeout(120_000);
page.on("request", (request) => {
  if (!request.url().startsWith(url) && !/^(blob|data):/.test(request.url())) found.foreign.push(request.url());
});
page.on("console", (message) => { if (message.type() === "error") found.errors.push(message.text()); });
page.on("pageerror", (error) => found.errors.push(String(error)));
page.on("dialog", (dialog) => dialog.accept());

const step = (name) => found.steps.push(name);
const picture = (name) => page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
async function check(where) {  // axe-core, put in by the browser itself, so that the page's policy stays as it is
  const session = await context.newCDPSession(page);
  const source = (await import("node:fs")).readFileSync(axe, "utf8");
  await session.send("Runtime.evaluate", { expression: source });
  const { violations } = await page.evaluate(() => window.axe.run());
  for (const { id, impact, nodes } of violations) {
    if (["serious", "critical"].includes(impact)) found.faults.push(`${where}: ${id}: ${nodes[0].html}`);
  }
}
const takes = () => page.locator("#take-list li.take");
const heard = () => page.evaluate(() => window.chelys.player.loudest);

try {
  await page.goto(url);
  await page.waitForFunction(() => document.querySelectorAll("#voice option").length > 1);
  await page.fill("#text", "Hello there. One, two, three!");
  await page.selectOption("#voice", { index: 1 });
  await page.click("#read");
  await page.waitForSelector("#sentences li");
  step("read");

  await page.focus("#text");
  await page.keyboard.press("Control+Enter");  // the keyboard alone
  await page.waitForFunction(() => window.chelys.player.loudest > 0.001);
  await takes().first().waitFor();
  found.heard = await heard();
  found.played = await page.evaluate(() => window.chelys.player.context.currentTime);
  step("heard while it came");
  await check("page");
  await picture("serve_page");

  await page.setInputFiles("#clips", [clip]);
  await page.click("#check-clips");
  await page.waitForSelector("#check li");
  found.checked = await page.textContent("#check");
  await page.fill("#name", "visitor");
  await page.click("#make");
  await page.waitForFunction(() => document.querySelector("#voice").value === "visitor"
    || document.querySelector("#error").textContent);
  found.check = await page.textContent("#check");
  await check("voice check");
  await picture("serve_voice_check");
  step("voice made");

  await page.selectOption("#takes", "3");
  await page.fill("#seed", "5");
  await page.click("#speak");
  await takes().nth(3).waitFor();
  await page.waitForFunction(() => !document.querySelector("#speak").disabled);
  found.scores = await page.locator("#take-list .score").allTextContents();
  step("three takes in the new voice");
  await page.getByRole("button", { name: "Keep: Take 3" }).click();
  found.kept = await page.locator(".take.kept h3").textContent();
  found.keeping = await page.inputValue("#command");
  found.focused = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  await page.getByRole("button", { name: "Better: Take 3" }).click();
  await takes().nth(4).waitFor();
  const [download] = await Promise.all([
    page.waitForEvent("download"), page.getByRole("button", { name: "Download: Take 3" }).click(),
  ]);
  await download.saveAs(`${pictures}/take.wav`);
  found.command = await page.inputValue("#command");
  found.curl = await page.inputValue("#curl");
  found.lengths = await page.evaluate(() => window.chelys.takes.map((take) => take.audio.length));
  await check("board");
  await picture("serve_board");
  step("kept, rendered again, downloaded");

  await page.selectOption("#second", { index: 1 });
  await page.click("#record");
  await page.waitForTimeout(1500);
  await page.click("#record");
  await page.waitForSelector("#clip-list li");
  step("recorded");
  await page.getByRole("button", { name: "Remove: recording-1.wav" }).click();

  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 390, height: 844 });
  found.overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await check("dark, phone");
  await picture("serve_phone_dark");
  await page.click("#remove");
  await page.waitForFunction(() => document.querySelector("#check").textContent.includes("deleted"));
  step("voice deleted");
} catch (error) {
  found.errors.push(String(error), await page.textContent("#error").catch(() => ""));
}
console.log(JSON.stringify(found));
await browser.close();
