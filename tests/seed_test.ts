import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { quoteIdentifier } from "../db/quote_identifier.ts";
import { freePort } from "../tools/servers/free_port.ts";
import { requiredEnv } from "./support/test_database.ts";

const program = new URL("../seed.ts", import.meta.url);

/** Runs the command as `deno task seed` does, with the import map of this test. */
async function seed(url: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const importMap = Deno.env.get("TEST_IMPORT_MAP");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-check"],
      ...(importMap ? ["--import-map", importMap] : []),
      ...[program.href, ...args],
    ],
    env: { DATABASE_URL: url, NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

function urlOf(name: string): string {
  const url = new URL(requiredEnv("DATABASE_URL"));
  url.pathname = `/${name}`;
  return url.href;
}

describe("deno task seed", () => {
  it("creates the database and its users, changes nothing again, and resets when told", async () => {
    const name = `test_seed_${crypto.randomUUID().slice(0, 8)}`;
    try {
      const first = await seed(urlOf(name));
      assertStringIncludes(first.output, "1000 users inserted in ");
      assertEquals(first.code, 0);
      const second = await seed(urlOf(name), "--count", "1000");
      assertStringIncludes(second.output, "0 users inserted in ");
      assertEquals(second.output.trim().split("\n").length, 1);
      const third = await seed(urlOf(name), "--reset", "--count=20000");
      assertStringIncludes(third.output, "20000 users inserted in ");
      await using database = connect({ url: urlOf(name) });
      assertEquals(await database.query("SELECT count(*)::int, max(id) FROM users"), [
        { count: 20_000, max: 20_000 },
      ]);
    } finally {
      await using database = connect({ url: urlOf("postgres") });
      await database.query(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
    }
  });

  it("makes the schema alone when no users are wanted", async () => {
    const name = `test_seed_${crypto.randomUUID().slice(0, 8)}`;
    try {
      const { code, output } = await seed(urlOf(name), "--count", "0");
      assertStringIncludes(output, "the schema is up to date");
      assertEquals(code, 0);
      await using database = connect({ url: urlOf(name) });
      assertEquals(await database.query("SELECT count(*)::int FROM users"), [{ count: 0 }]);
    } finally {
      await using database = connect({ url: urlOf("postgres") });
      await database.query(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
    }
  });

  it("says whom Postgres does not let in", async () => {
    const url = new URL(urlOf("postgres"));
    url.username = "nobody_of_that_name";
    const { code, output } = await seed(url.href);
    assertEquals(code, 1);
    assertStringIncludes(output, "nobody_of_that_name");
    assertStringIncludes(output, ". Is DATABASE_URL right?");
    assertEquals(output.trim().split("\n").length, 1, output);
  });

  it("says in one line what is wrong, and fails", async () => {
    const down = `postgres://ann:hunter2@127.0.0.1:${freePort()}/x`;
    const cases: [args: string[], message: string][] = [
      [[], "Cannot use Postgres now: it cannot be reached"],
      [[], "Is Postgres running? Is DATABASE_URL right?"],
      [["--count", "-1"], "Option '--count' argument is ambiguous"],
      [["--count", "many"], "Cannot seed many users: --count takes 0 to 2147483647"],
      [["--cuont=5"], "Unknown option '--cuont'"],
    ];
    for (const [args, message] of cases) {
      const { code, output } = await seed(down, ...args);
      assertEquals(code, args.length === 0 ? 1 : 2);
      assertStringIncludes(output, message);
      assertEquals(output.trim().split("\n").length, 1);
      assertEquals(output.includes("hunter2"), false);
    }
  });
});
