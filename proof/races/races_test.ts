import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { adaptersOf, libraries } from "./adapters.ts";
import { tableOf } from "./report.ts";
import { runRaces } from "./run.ts";

const PAGES = ["README.md", "docs/explanation/races.md"];

describe("deno task races", () => {
  it("prints the table that stands in the pages", async () => {
    const adapters = await adaptersOf(libraries);
    const table = `${tableOf(adapters, await runRaces(adapters))}\n`;
    for (const path of PAGES) {
      const page = await Deno.readTextFile(new URL(`../../${path}`, import.meta.url));
      assertEquals(table, /^\| race .*\n(\|.*\n)+/m.exec(page)?.[0], path);
    }
  });
});
