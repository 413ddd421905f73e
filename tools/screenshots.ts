// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task screenshots`: the pictures of docs/images/, taken of its own service under a seeded random load.
 *
 * @module
 */
import { resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Browser, Page } from "playwright-core";
import { readOptions } from "./command_line.ts";
import { ROOT } from "./child_process.ts";
import { startChromium } from "./servers/chromium.ts";
import { animatedPng } from "./animated_png.ts";
import { type DevProcess, startDev } from "./servers/dev_process.ts";
import { eventually } from "./servers/eventually.ts";
import { startPostgres } from "./servers/postgres_server.ts";
import { startRedis } from "./servers/redis_server.ts";
import { type Service, startService } from "./servers/service.ts";

const COMMAND = {
  name: "deno task screenshots",
  help: `deno task screenshots [--out DIRECTORY]

Takes the screenshots for the documentation, in two minutes. Needs redis-server, Postgres and Chromium.

  --out DIRECTORY  where they go (docs/images)`,
  options: { out: { type: "string", default: resolve(ROOT, "docs/images") } },
} as const;

/** A picture: its preparation and its content. */
interface Picture {
  readonly name: string;
  /** The element that it shows; absent: a window of that height. */
  readonly of?: string;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
  /** True if it shows `deno task dev`, false for the service by itself. */
  readonly ofDev: boolean;
  prepare(page: Page): Promise<void>;
}

/** Time for which a page shows figures before its picture. */
const WARM_MS = 40_000;
/** Time for which both caches are under load before a fault. */
const LOAD_MS = 8_000;
/** Time that the inspector has to answer. */
const LOOK_MS = 1_000;
/** Size limit of a picture in a README. */
const BYTES_MAX = 300_000;
/** Size limit of a film. */
const FILM_BYTES_MAX = 1_000_000;
const FILM_HEIGHT = 425;
const FRAME_MS = 700;
const SEED = 7;
const WIDTH = 1_200;

const service = { colorScheme: "light", ofDev: false } as const;

const PICTURES: readonly Picture[] = [
  { ...service, name: "dashboard.png", height: 1_057, prepare: runFiveSteps },
  {
    ...service,
    name: "inspector.png",
    of: ".columns",
    height: 900,
    colorScheme: "dark",
    prepare: inspect,
  },
  {
    ...service,
    name: "break-it.png",
    of: "#break-it",
    height: 900,
    ofDev: true,
    prepare: breakBoth,
  },
];

/** Takes all pictures into a folder. Answers their paths. */
export async function takeScreenshots(folder: string): Promise<string[]> {
  await using stack = new AsyncDisposableStack();
  const data = await Deno.makeTempDir({ prefix: "lookaside_screenshots_" });
  stack.defer(() => Deno.remove(data, { recursive: true }));
  const redis = stack.use(await startRedis());
  const postgres = stack.use(await startPostgres());
  const env = { REDIS_URL: redis.url, DATABASE_URL: postgres.urlOf("testdb") };
  const dev = stack.use(await startDev(env, ["--data", data]));
  const service = stack.use(await startService({ env }));
  stack.use(new Load(service)).start();
  const browser = stack.use(await startChromium());
  const paths: string[] = [];
  for (const picture of PICTURES) {
    const { port } = picture.ofDev ? dev : service;
    paths.push(await take(browser, { picture, port, folder }));
  }
  paths.push(await film(browser, dev, folder));
  return paths;
}

async function take(
  browser: Browser,
  { picture, port, folder }: {
    readonly picture: Picture;
    readonly port: number;
    readonly folder: string;
  },
): Promise<string> {
  const { name, of, height, colorScheme, prepare } = picture;
  const context = await browser.newContext({
    viewport: { width: WIDTH, height },
    colorScheme,
    locale: "en-GB",
  });
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.getByRole("status").filter({ hasText: /^Live$/ }).waitFor();
  await prepare(page);
  await page.evaluate("document.activeElement?.blur()");
  const path = resolve(folder, name);
  await (of === undefined ? page : page.locator(of)).screenshot({ path });
  await context.close();
  const { size } = await Deno.stat(path);
  if (size > BYTES_MAX) throw new Error(`Cannot use ${path}: ${size} bytes are too many`);
  return path;
}

/** The panel while the servers of both caches are broken, frame by frame. */
async function film(browser: Browser, { port }: DevProcess, folder: string): Promise<string> {
  const viewport = { width: WIDTH, height: FILM_HEIGHT };
  const page = await browser.newPage({ viewport, colorScheme: "light", locale: "en-GB" });
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.getByRole("status").filter({ hasText: /^Live$/ }).waitFor();
  const frames: Uint8Array[] = [];
  const filming = async (count: number) => {
    for (let i = 0; i < count; i++) {
      await page.evaluate("document.querySelector('#break-it').scrollIntoView()");
      frames.push(await page.screenshot());
      await delay(FRAME_MS);
    }
  };
  await press(page, "Reset counters", "Counters reset");
  await filming(2);
  await press(page, "Restart Redis from an old file", "Redis was killed");
  await filming(4);
  await press(page, "UPDATE by psql", "psql updated");
  await filming(6);
  await page.close();
  const path = resolve(folder, "break-it-live.png");
  const png = animatedPng(frames, FRAME_MS);
  if (png.length > FILM_BYTES_MAX) {
    throw new Error(`Cannot use ${path}: it has ${png.length} bytes`);
  }
  await Deno.writeFile(path, png);
  return path;
}

/** Presses a button of the panel, and waits for the message. */
async function press(page: Page, name: string, told: string): Promise<void> {
  await page.locator("#break-it button:not([aria-disabled])", { hasText: name }).click();
  const events = page.getByRole("list", { name: "Log" });
  await events.locator("li").first().filter({ hasText: told }).waitFor();
}

/** Causes every fault, one after the other. */
async function breakBoth(page: Page): Promise<void> {
  await press(page, "Start the load", "Both caches");
  await delay(LOAD_MS);
  await press(page, "Kill the feed", "Killed");
  await press(page, "Restart Redis from an old file", "Redis was killed");
  await delay(2_000);
  await press(page, "UPDATE by psql", "psql updated");
  await delay(3_000);
}

/** Runs the five steps, for charts with content. */
async function runFiveSteps(page: Page): Promise<void> {
  await delay(WARM_MS);
  await page.getByLabel("User").fill("950");
  await page.getByRole("button", { name: "Run the five steps" }).click();
  await page.getByText("Done. The bio is as it was.").waitFor();
}

/** The inspector with a key that both tiers have; repeated, since a write may just have invalidated it. */
async function inspect(page: Page): Promise<void> {
  await page.getByLabel("Key", { exact: true }).fill("users:1");
  await eventually(async () => {
    await page.getByRole("button", { name: "Look", exact: true }).click();
    await page.locator("#inspected").getByText("Memory").waitFor({ timeout: LOOK_MS });
  });
}

/** Reads of a few users, mostly the first one, and occasional writes. */
class Load implements AsyncDisposable {
  readonly #service: Service;
  readonly #ended = new AbortController();
  #state = SEED;
  #running: Promise<unknown> = Promise.resolve();

  constructor(service: Service) {
    this.#service = service;
  }

  /** Begins with four readers. */
  start(): void {
    this.#running = Promise.all([0, 1, 2, 3].map(() => this.#run()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      const id = 1 + Math.floor(900 * this.#random() ** 3);
      const isWrite = this.#random() < 0.02;
      const init = isWrite
        ? {
          method: "PATCH",
          body: JSON.stringify({ bio: `Version ${id}` }),
          headers: { "content-type": "application/json" },
        }
        : {};
      const response = await this.#service.fetch(`/users/${id}`, init);
      await response.body?.cancel();
      await delay(8);
    }
  }

  /** The minimal standard generator: the same numbers in every run. */
  #random(): number {
    this.#state = this.#state * 48_271 % 2_147_483_647;
    return this.#state / 2_147_483_647;
  }
}

if (import.meta.main) {
  const { out } = readOptions(COMMAND);
  for (const path of await takeScreenshots(out)) console.log(path);
  Deno.exit(0);
}
