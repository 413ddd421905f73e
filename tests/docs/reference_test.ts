import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import { VARIABLE_NAMES } from "../../server/config.ts";
import { projectRoot } from "../support/source_tree.ts";

describe("docs/reference/configuration.md", () => {
  it("lists every variable with its default, and no other", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/configuration.md"));
    const example = await Deno.readTextFile(join(projectRoot, ".env.example"));
    const listed = [...page.matchAll(/^\| `([A-Z_]+)` +\| (?:`([^`]*)`|–) +\|/gm)];
    assertEquals(listed.map(([, name]) => name).sort(), [...VARIABLE_NAMES].sort());
    for (const [, name, value = ""] of listed) {
      const line = new RegExp(`^#? ?${name}=(.*)$`, "m").exec(example);
      assertEquals(`${name}=${value}`, `${name}=${line?.[1]}`);
    }
  });
});

describe("docs/reference/commands.md", () => {
  it("lists every task", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/commands.md"));
    const { tasks } = JSON.parse(await Deno.readTextFile(join(projectRoot, "deno.json")));
    const listed = [...page.matchAll(/^\| `deno task ([a-z:]+)` /gm)].map(([, name]) => name);
    assertEquals(listed.sort(), Object.keys(tasks).sort());
  });
});
