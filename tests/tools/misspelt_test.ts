import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { VARIABLE_NAMES } from "../../server/config.ts";
import { misspelt } from "../../tools/misspelt.ts";

function meantBy(...names: string[]): (string | undefined)[] {
  return misspelt(Object.fromEntries(names.map((name) => [name, "1"])))
    .map((line) => /^(\w+) is not read: .* Did you mean (\w+)\?$/.exec(line)?.slice(1).join(" "));
}

describe("misspelt()", () => {
  it("names what was probably meant", () => {
    assertEquals(meantBy("CACHE_TLL_MS", "REDIS_ULR", "DATABASE_POOLMAX", "ADMIN_TOKENS"), [
      "CACHE_TLL_MS CACHE_TTL_MS",
      "REDIS_ULR REDIS_URL",
      "DATABASE_POOLMAX DATABASE_POOL_MAX",
      "ADMIN_TOKENS ADMIN_TOKEN",
    ]);
  });

  it("names one with a prefix of ours, however far from all of them", () => {
    assertEquals(meantBy("CACHE_FOREVER").length, 1);
  });

  it("leaves the service's own and those of others alone", () => {
    assertEquals(meantBy(...VARIABLE_NAMES), []);
    assertEquals(meantBy("HOSTS", "PATH", "REDIS_PASSWORD", "DATABASE_NAME", "POSTGRES_DB"), []);
  });
});
