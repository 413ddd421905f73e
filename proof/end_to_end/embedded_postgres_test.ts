import { assert, assertEquals, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import { ChildProcess } from "../../tools/child_process.ts";

const program = ["run", "--allow-all", "tools/dev/embedded_postgres.ts"];

describe("the embedded Postgres", () => {
  let folder: string;

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
  });
  afterAll(() => Deno.remove(folder, { recursive: true }));

  describe("while it runs", () => {
    let server: ChildProcess;
    let url: string;

    beforeAll(async () => {
      server = ChildProcess.deno([...program, "--data", `${folder}/pg`], { readOutput: true });
      url = await server.firstLine();
    });
    afterAll(() => server[Symbol.asyncDispose]());

    it("keeps the statements of several clients apart", async () => {
      const sql = postgres(url, { max: 5, onnotice: () => undefined });
      try {
        await sql`CREATE TABLE numbers (n INTEGER)`;
        await Promise.all(Array.from({ length: 200 }, async (_, at) => {
          if (at % 9 === 0) {
            await sql.begin(async (transaction) => {
              await transaction`INSERT INTO numbers VALUES (${at})`;
              await transaction`UPDATE numbers SET n = ${at} WHERE n = ${at}`;
            });
          } else if (at % 7 === 0) {
            await assertRejects(() => sql`SELECT 1 / (${at}::int - ${at}::int)`);
          } else {
            const [row] = await sql`SELECT ${at}::int AS n, ${"x".repeat(at * 9)} AS filler`;
            assertEquals([row?.n, row?.filler.length], [at, at * 9]);
          }
        }));
        const [row] = await sql`SELECT count(*)::int AS count FROM numbers`;
        assertEquals(row?.count, 23);
      } finally {
        await sql.end({ timeout: 5 });
      }
    });

    it("goes on when a client drops out in mid-transaction", async () => {
      const leaving = postgres(url, { max: 1, onnotice: () => undefined });
      const client = await leaving.reserve();
      await client`BEGIN`;
      await client`INSERT INTO numbers VALUES (-1)`;
      await leaving.end({ timeout: 0 });
      const sql = postgres(url, { max: 1, onnotice: () => undefined });
      try {
        const [row] = await sql`SELECT count(*)::int AS count FROM numbers WHERE n = -1`;
        assertEquals(row?.count, 0);
      } finally {
        await sql.end({ timeout: 5 });
      }
    });

    it("refuses a folder that another process has open", async () => {
      const { code, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [...program, "--data", `${folder}/pg`],
        stdin: "null",
      }).output();
      assert(code !== 0);
      assert(new TextDecoder().decode(stderr).includes("another process has it open"));
    });
  });

  // On the same folder, because an empty one takes seconds to fill.
  it("ends with its standard input", async () => {
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [...program, "--data", `${folder}/pg`],
      stdin: "null",
    }).output();
    assertEquals(code, 0);
    assert(new TextDecoder().decode(stdout).startsWith("postgres://postgres@127.0.0.1:"));
  });
});
