import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));

describe("docs/reference/events.md", () => {
  it("lists every event with its fields, and no other", async () => {
    const source = await Deno.readTextFile(`${root}cache/events.ts`);
    const [union = ""] = /export type CacheEvent =[\s\S]+?;\n\n/.exec(source) ?? [];
    const events = [...union.matchAll(/\{([\s\S]+?)\}/g)].map(([, body = ""]) => {
      const fields = [...body.matchAll(/readonly (\w+):/g)].map(([, name = ""]) => name);
      return [/type: "([\w-]+)"/.exec(body)?.[1], fields.filter((name) => name !== "type").sort()];
    });
    assert(events.length > 10);
    const page = await Deno.readTextFile(`${root}docs/reference/events.md`);
    const listed = [...page.matchAll(/^\| `([\w-]+)` +\| (.+?) +\|/gm)].map((
      [, type, fields = ""],
    ) => [type, [...fields.matchAll(/`(\w+)`/g)].map(([, name = ""]) => name).sort()]);
    const byType = (a: unknown[], b: unknown[]) => String(a[0]).localeCompare(String(b[0]));
    assertEquals(listed.filter(([type]) => type !== "type").sort(byType), events.sort(byType));
  });

  it("shows a program that holds", async () => {
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--doc", "--no-check", "--allow-all", "docs/reference/events.md"],
      cwd: root,
    }).output();
    assert(success, new TextDecoder().decode(stderr));
  });
});
