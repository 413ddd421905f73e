import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

/** Usual paths. The first is a browser without windows, which opens a page with half the work. */
const places = [
  "/usr/bin/chromium-headless-shell",
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome-stable",
  "/usr/bin/google-chrome",
];

/** Finds the browser of this machine. `undefined`: there is none. */
export function chromiumPath(): string | undefined {
  return places.find((path) => existsSync(path));
}

/** Starts a browser with a temporary profile, which contacts no host but that of the page. */
export async function startChromium(): Promise<Browser & AsyncDisposable> {
  const executablePath = chromiumPath();
  if (executablePath === undefined) {
    throw new Error(
      "Cannot start Chromium: it is not on this machine (Debian: chromium-headless-shell)",
    );
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
