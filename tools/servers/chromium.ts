import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

/** Where Debian and others put it. */
const places = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome-stable",
  "/usr/bin/google-chrome",
];

/** Finds the browser of this machine. `undefined`: it has none. */
export function chromiumPath(): string | undefined {
  return places.find((path) => existsSync(path));
}

/** Starts a browser with a profile of its own that is gone with it, and that asks nobody but the page. */
export async function startChromium(): Promise<Browser & AsyncDisposable> {
  const executablePath = chromiumPath();
  if (executablePath === undefined) {
    throw new Error("Cannot start Chromium: it is not on this machine (Debian: chromium)");
  }
  return await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--no-first-run",
      "--no-proxy-server",
    ],
  });
}
