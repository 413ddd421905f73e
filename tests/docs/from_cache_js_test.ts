import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Redis } from "ioredis";
import postgres from "postgres";
import { startRedis } from "../../tools/servers/redis_server.ts";
import type { RedisServer } from "../../tools/servers/redis_server.ts";
import { copyTree, type TreeCopy } from "../support/tree_copy.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

const PAGE = new URL("../../docs/tutorial/from-cache-js.md", import.meta.url);

/** Reads, renames past and through the application, and prints what is read after each. */
const PROGRAM = `import { setTimeout as delay } from "node:timers/promises";
import { close } from "./cache.js";
import { pool } from "./db.js";
import { findUser, renameUser } from "./users.js";

const nameOf = async (id) => (await findUser(id))?.name;
for (const until = performance.now() + 10_000; performance.now() < until; await delay(20)) {
  if (await nameOf(1) === "Ada") break;
}
const names = [await nameOf(1)];
await renameUser(1, "Grace");
names.push(await nameOf(1));
await pool.query("UPDATE users SET name = 'Edith' WHERE id = 1");
for (let i = 0; i < 100 && names[2] !== "Edith"; i++) {
  await delay(20);
  names[2] = await nameOf(1);
}
console.log([...names, String(await nameOf(404))].join(" "));
await close();
await pool.end();
`;

/** The files of the page, in their order. */
interface File {
  readonly name: string;
  readonly text: string;
}

describe("docs/tutorial/from-cache-js.md", () => {
  const stack = new AsyncDisposableStack();
  let files: readonly File[];
  let tree: TreeCopy;
  let database: TestDatabase;
  let redis: RedisServer;

  beforeAll(async () => {
    const page = await Deno.readTextFile(PAGE);
    files = [...page.matchAll(/^`([\w.]+)`\n\n```js ignore\n([\s\S]+?)^```$/gm)].map(
      ([, name = "", text = ""]) => ({ name, text }),
    );
    assertEquals(files.map(({ name }) => name), [
      ...["cache.js", "users.js", "db.js", "cache.js", "cache.js", "users.js"],
    ]);
    tree = stack.use(await copyTree());
    redis = stack.use(await startRedis());
    database = stack.use(await createTestDatabase());
    const sql = postgres(database.url, { max: 1 });
    await sql`CREATE TABLE users (id integer PRIMARY KEY, name text NOT NULL)`;
    await sql`INSERT INTO users VALUES (1, 'Ada')`;
    await sql.end();
  });
  afterAll(() => stack.disposeAsync());

  /** Lays the first so many files of the page over each other, and runs them. */
  async function runStage(count: number): Promise<string> {
    const folder = `${tree.root}tutorial/`;
    await Deno.mkdir(folder, { recursive: true });
    for (const { name, text } of files.slice(0, count)) {
      await Deno.writeTextFile(folder + name, text);
    }
    await Deno.writeTextFile(`${folder}program.js`, PROGRAM);
    const sql = postgres(database.url, { max: 1 });
    await sql`UPDATE users SET name = 'Ada'`;
    await sql.end();
    const admin = new Redis(redis.url);
    await admin.flushall();
    await admin.quit();
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--allow-all", "tutorial/program.js"],
      cwd: tree.root,
      env: { REDIS_URL: redis.url, DATABASE_URL: database.url, NO_COLOR: "1" },
    }).output();
    const decoder = new TextDecoder();
    assert(success, decoder.decode(stderr));
    return decoder.decode(stdout).trim();
  }

  it("begins with a cache that does not see what psql writes", async () => {
    assertEquals((await runStage(3)).split(" ").slice(0, 3), ["Ada", "Grace", "Grace"]);
  });

  it("replaces the file alone, with the same answers", async () => {
    assertEquals(await runStage(4), "Ada Grace Grace undefined");
  });

  it("ends with what psql writes", async () => {
    assertEquals(await runStage(6), "Ada Grace Edith undefined");
  });
});
