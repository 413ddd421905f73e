import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { adaptersOf, libraries } from "./adapters.ts";
import { tableOf } from "./report.ts";
import { runRaces } from "./run.ts";

const PAGE = new URL("../../docs/explanation/races.md", import.meta.url);

describe("deno task races", () => {
  it("prints the table that stands in docs/explanation/races.md", async () => {
    const page = await Deno.readTextFile(PAGE);
    const [table] = page.match(/^\| race .*\n(\|.*\n)+/m) ?? [];
    const adapters = await adaptersOf(libraries);
    assertEquals(`${tableOf(adapters, await runRaces(adapters))}\n`, table);
  });
});
