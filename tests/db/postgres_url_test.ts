import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { changePostgresUrl, parsePostgresUrl } from "../../db/postgres_url.ts";

function hrefsOf(url: string): string[] {
  return parsePostgresUrl(url).urls.map(({ href }) => href);
}

describe("parsePostgresUrl()", () => {
  it("answers a URL for each server, in their order", () => {
    assertEquals(hrefsOf("postgres://db/x"), ["postgres://db/x"]);
    assertEquals(hrefsOf("postgresql://me:p%40,w@h1:5432,[::1]:5433,h3/x?sslmode=require"), [
      "postgresql://me:p%40,w@h1:5432/x?sslmode=require",
      "postgresql://me:p%40,w@[::1]:5433/x?sslmode=require",
      "postgresql://me:p%40,w@h3/x?sslmode=require",
    ]);
  });

  it("passes over what hosted Postgres adds for others, and obeys the rest", () => {
    const hosted = [
      // Neon, Prisma, Supabase behind Vercel
      ["sslmode=require&channel_binding=require", "?sslmode=require", "channel_binding"],
      ["schema=app&connection_limit=1", "?search_path=app", "connection_limit"],
      ["connect_timeout=10&application_name=me", "?application_name=me", "connect_timeout"],
      ["pgbouncer=true&supa=base-pooler.x", "", "pgbouncer", "supa"],
      ["sslmode=prefer", "?sslmode=prefer"],
      ["target_session_attrs=read-write", ""],
      ["options=endpoint%3Dx", "?options=endpoint%3Dx"],
    ] as const;
    for (const [given, left, ...passedOver] of hosted) {
      const url = `postgres://db/x?${given}`;
      assertEquals(hrefsOf(url), [`postgres://db/x${left}`]);
      assertEquals(parsePostgresUrl(url).passedOver, passedOver);
    }
  });

  it("refuses what is no such URL, by the name of the parameter and without repeating it", () => {
    const wrong = [
      "mysql://db/x",
      "postgres:///x",
      "postgres://h1,,h2/x",
      "postgres://h1,h2:99999/x",
      `postgres://${Array(11).fill("h").join()}/x`,
    ];
    for (const url of wrong) assertThrows(() => parsePostgresUrl(url), TypeError, "Cannot read");
    for (const name of ["sslmode", "target_session_attrs"]) {
      const url = `postgres://db/x?${name}=s3cret`;
      const { message } = assertThrows(() => parsePostgresUrl(url), TypeError, name);
      assertEquals(message.includes("s3cret"), false);
    }
  });
});

describe("changePostgresUrl()", () => {
  it("refuses what does not begin an escape, and says so", () => {
    for (const url of ["postgres://me:50%@db/x", "postgres://m%e@h1,h2/x", "postgres://db/x%zz"]) {
      assertThrows(() => parsePostgresUrl(url), TypeError, "write %25 for itself");
    }
    assertEquals(hrefsOf("postgres://me:50%25@db/x"), ["postgres://me:50%25@db/x"]);
  });

  it("changes a part, and keeps the servers", () => {
    const changed = changePostgresUrl("postgres://me@h1:1,[::1]:2/x?a=b", (url) => {
      url.password = encodeURIComponent("servers/@,");
      url.pathname = "/servers";
    });
    assertEquals(changed, "postgres://me:servers%2F%40%2C@h1:1,[::1]:2/servers?a=b");
  });
});
