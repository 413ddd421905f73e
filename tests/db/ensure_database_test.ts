import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { DatabaseUnavailableError } from "../../db/database.ts";
import { ensureDatabase } from "../../db/ensure_database.ts";
import { quoteIdentifier } from "../../db/quote_identifier.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { requiredEnv } from "../support/test_database.ts";

function urlOf(name: string): string {
  const url = new URL(requiredEnv("DATABASE_URL"));
  url.pathname = `/${encodeURIComponent(name)}`;
  return url.href;
}

async function drop(name: string): Promise<void> {
  await using database = connect({ url: urlOf("postgres"), poolMax: 1 });
  await database.query(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)} WITH (FORCE)`);
}

async function withFreshName(name: string, run: (name: string) => Promise<void>): Promise<void> {
  const fresh = `${name}_${crypto.randomUUID().slice(0, 8)}`;
  try {
    await run(fresh);
  } finally {
    await drop(fresh);
  }
}

describe("ensureDatabase()", () => {
  it("creates the database once", async () => {
    await withFreshName("test_ensure", async (name) => {
      assertEquals(await ensureDatabase(connect, urlOf(name)), true);
      assertEquals(await ensureDatabase(connect, urlOf(name)), false);
      await using database = connect({ url: urlOf(name) });
      assertEquals(await database.query("SELECT current_database() AS name"), [{ name }]);
    });
  });

  it("lets several callers race: it exists for all of them, created by one", async () => {
    await withFreshName("test_race", async (name) => {
      const created = await Promise.all(
        [1, 2, 3, 4].map(() => ensureDatabase(connect, urlOf(name))),
      );
      assertEquals(created.filter(Boolean).length, 1);
    });
  });

  it("takes a name that looks like SQL for a name", async () => {
    await withFreshName("by", async (bystander) => {
      await ensureDatabase(connect, urlOf(bystander));
      await withFreshName(`x"; DROP DATABASE ${bystander}; --`, async (name) => {
        assertEquals(await ensureDatabase(connect, urlOf(name)), true);
        await using database = connect({ url: urlOf(name) });
        assertEquals(await database.query("SELECT current_database() AS name"), [{ name }]);
      });
      assertEquals(await ensureDatabase(connect, urlOf(bystander)), false);
    });
  });

  it("rejects when the server cannot be reached, and when the URL names no database", async () => {
    await assertRejects(
      () => ensureDatabase(connect, `postgres://postgres@127.0.0.1:${freePort()}/x`),
      DatabaseUnavailableError,
    );
    await assertRejects(
      () => ensureDatabase(connect, urlOf("")),
      TypeError,
      "Cannot create a database: the URL names none",
    );
  });
});

describe("quoteIdentifier()", () => {
  it("doubles quotes, and refuses what no identifier can be", () => {
    assertEquals(quoteIdentifier('a"b'), '"a""b"');
    assertThrows(() => quoteIdentifier(""), TypeError);
    assertThrows(() => quoteIdentifier("a\0b"), TypeError);
  });
});
