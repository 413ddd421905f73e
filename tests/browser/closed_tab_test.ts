import postgres from "postgres";
import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import type { Browser, Page } from "playwright-core";
import { startChromium } from "../../tools/servers/chromium.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { type Service, startService } from "../../tools/servers/service.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { becomesLive, openDashboard } from "./_dashboard_page.ts";

/** So that the steps stay where they are for as long as a test looks. */
const WITHOUT_READS_AFTER_WRITES = `{
  const { fetch } = globalThis;
  let written = false;
  globalThis.fetch = (path, init) => {
    if (written && init?.method !== "PATCH" && new URL(path).pathname.startsWith("/users/")) return new Promise(() => {});
    written ||= init?.method === "PATCH";
    return fetch(path, init);
  };
}`;

describe("a tab that is closed in the midst of the five steps", () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  let service: Service;
  let sql: postgres.Sql;

  beforeAll(async () => {
    const { url } = stack.use(await createSeededDatabase(5));
    service = stack.use(await startService({ env: { REDIS_URL: "memory:", DATABASE_URL: url } }));
    sql = postgres(url, { max: 2, onnotice: () => {} });
    stack.defer(() => sql.end());
    browser = stack.use(await startChromium());
  });
  afterAll(() => stack.disposeAsync());

  async function bioOf(id: number): Promise<string> {
    const [row] = await sql`SELECT bio FROM users WHERE id = ${id}`;
    return row?.bio;
  }

  async function waitingForLocks(): Promise<number> {
    const [row] = await sql`SELECT count(*)::int AS count FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    return row?.count;
  }

  async function start(page: Page, id: number): Promise<void> {
    await becomesLive(page);
    await page.getByLabel("User").fill(String(id));
    await page.getByRole("button", { name: "Run the five steps" }).click();
  }

  /** Closes it while its write waits for a row that is locked; `meanwhile` has the lock. */
  async function closeDuringWrite(
    id: number,
    meanwhile: (sql: postgres.TransactionSql) => Promise<unknown>,
  ): Promise<void> {
    await using dashboard = await openDashboard(browser, service.url);
    await sql.begin(async (sql) => {
      await sql`SELECT FROM users WHERE id = ${id} FOR UPDATE`;
      await start(dashboard.page, id);
      await eventually(async () => assertEquals(await waitingForLocks(), 1));
      await dashboard.page.close();
      await eventually(async () => assertEquals(await waitingForLocks(), 2));
      await meanwhile(sql);
    });
    await eventually(async () => assertEquals(await waitingForLocks(), 0));
  }

  it("takes back what was written", async () => {
    const before = await bioOf(1);
    await using dashboard = await openDashboard(browser, service.url);
    await becomesLive(dashboard.page);
    await dashboard.page.evaluate(WITHOUT_READS_AFTER_WRITES);
    await start(dashboard.page, 1);
    await dashboard.page.locator("#steps .badge", { hasText: "written" }).waitFor();
    assertEquals((await bioOf(1)).startsWith("Written by the dashboard"), true);
    await dashboard.page.close();
    await eventually(async () => assertEquals(await bioOf(1), before));
  });

  it("takes back what is still being written", async () => {
    const before = await bioOf(2);
    const log = await loggedBios(2);
    await closeDuringWrite(2, () => Promise.resolve());
    await eventually(async () => assertEquals((await log()).length, 2));
    const [written, restored] = await log();
    assertEquals([written?.startsWith("Written by"), restored], [true, before]);
    assertEquals(await bioOf(2), before);
  });

  it("leaves what somebody else wrote meanwhile", async () => {
    await closeDuringWrite(3, (sql) => sql`UPDATE users SET bio = 'a colleague''s' WHERE id = 3`);
    assertEquals(await bioOf(3), "a colleague's");
  });

  /** Answers a function that tells each bio that a user was given since. */
  async function loggedBios(id: number): Promise<() => Promise<string[]>> {
    await sql.unsafe(`CREATE TABLE bios (at serial, bio text);
      CREATE FUNCTION log_bio() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO bios (bio) VALUES (NEW.bio); RETURN NEW; END';
      CREATE TRIGGER log_bio AFTER UPDATE ON users FOR EACH ROW WHEN (NEW.id = ${id})
        EXECUTE FUNCTION log_bio()`);
    return async () => (await sql`SELECT bio FROM bios ORDER BY at`).map(({ bio }) => bio);
  }
});
