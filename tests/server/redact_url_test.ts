import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { redactUrl } from "../../server/redact_url.ts";

describe("redactUrl()", () => {
  it("hides a password and keeps the rest", () => {
    assertEquals(redactUrl("redis://me:p4ss@host:6379/1"), "redis://me:***@host:6379/1");
    assertEquals(redactUrl("postgres://host/db?password=p4ss"), "postgres://host/db?password=***");
    assertEquals(redactUrl("postgres://me@host:5432/db"), "postgres://me@host:5432/db");
    assertEquals(redactUrl("memory:"), "memory:");
  });

  it("hides the password of several servers, whose URL no URL parser takes", () => {
    for (
      const [url, shown] of [
        ["redis-cluster://h1:7000,h2:7001", "redis-cluster://h1:7000,h2:7001"],
        ["redis-cluster://me:p4ss@h1:7000,h2:7001", "redis-cluster://me:***@h1:7000,h2:7001"],
        ["rediss-ring://:p4ss@h1:1,[::1]:2/3", "rediss-ring://:***@h1:1,[::1]:2/3"],
        ["redis-sentinel://me@h1,h2/m", "redis-sentinel://me@h1,h2/m"],
        ["redis-sentinel://:p4:ss@h1,h2/m/0", "redis-sentinel://:***@h1,h2/m/0"],
        ["postgres://me:p4ss@h1:5432,h2:5433/db", "postgres://me:***@h1:5432,h2:5433/db"],
        ["postgres://me@h1,h2/db?password=p4ss", "postgres://me@h1,h2/db?password=***"],
      ] as const
    ) assertEquals(redactUrl(url), shown);
    for (
      const url of ["redis-cluster://me:p4@ss@h1:7000,h2:7001", "redis-ring://me:p4/ss@h1:1,h2:2"]
    ) {
      assert(!redactUrl(url).includes("ss"), redactUrl(url));
    }
  });

  it("shows nothing of what is not a URL", () => {
    assertEquals(redactUrl("p4ssw0rd"), "(not a URL)");
  });
});
