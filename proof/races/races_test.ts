import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { adaptersOf, libraries } from "./adapters.ts";
import { tableOf } from "./report.ts";
import { runRaces } from "./run.ts";

describe("deno task races", () => {
  it("prints the table that stands in the README", async () => {
    const adapters = await adaptersOf(libraries);
    const table = `${tableOf(adapters, await runRaces(adapters))}\n`;
    const page = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
    assertEquals(table, /^\| race .*\n(\|.*\n)+/m.exec(page)?.[0]);
  });
});
