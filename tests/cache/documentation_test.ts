import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { z } from "zod";

const cache = fileURLToPath(new URL("../../cache/", import.meta.url));

const Doc = z.object({ tags: z.array(z.object({ kind: z.string() })).default([]) }).optional();
const Symbols = z.object({
  nodes: z.record(
    z.string(),
    z.object({
      symbols: z.array(z.object({
        name: z.string(),
        declarations: z.array(z.object({
          kind: z.string(),
          jsDoc: Doc,
          def: z.object({
            methods: z.array(z.object({ name: z.string(), jsDoc: Doc })).optional(),
          }).nullish(),
        })),
      })),
    }),
  ),
});

describe("the public API of cache/", () => {
  it("has an example, which the suite runs, for every function, class and method", async () => {
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["doc", "--json", "mod.ts"],
      cwd: cache,
      stderr: "null",
    }).output();
    assert(success);
    const { nodes } = Symbols.parse(JSON.parse(new TextDecoder().decode(stdout)));
    const named = Object.values(nodes).flatMap(({ symbols }) => symbols).flatMap(
      ({ name, declarations }) =>
        declarations.flatMap(({ kind, jsDoc, def }) => [
          ...(kind === "interface" || kind === "typeAlias" ? [] : [{ name, jsDoc }]),
          ...(kind === "class" ? def?.methods ?? [] : []).map((method) => ({
            name: `${name}.${method.name}`,
            jsDoc: method.jsDoc,
          })),
        ]),
    );
    const without = named.filter(({ jsDoc }) =>
      !(jsDoc?.tags ?? []).some(({ kind }) => kind === "example")
    );
    assertEquals(without.map(({ name }) => name), []);
    assertGreater(named.length, 20);
    assert(named.some(({ name }) => name === "Cache.getOrLoad"));
  });
});
