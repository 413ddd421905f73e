import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";

const root = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string) => Deno.readTextFile(root + path);

const { version } = z.object({ version: z.string() }).parse(
  JSON.parse(await read("cache/deno.json")),
);

describe("the version", () => {
  it("is the same of the cache and of the image that is deployed", async () => {
    const { images } = z.object({ images: z.tuple([z.object({ newTag: z.string() })]) })
      .parse(parse(await read("ops/kubernetes/kustomization.yaml")));
    assertEquals(images[0].newTag, version);
  });

  it("is the same of every package", async () => {
    for (const folder of ["changes", "adapters/drizzle", "proof/races"]) {
      assertEquals(JSON.parse(await read(`${folder}/deno.json`)).version, version, folder);
    }
  });

  it("is that of the newest release in CHANGELOG.md, if there was one", async () => {
    const changelog = await read("CHANGELOG.md");
    assertMatch(changelog, /^## Unreleased$/m);
    const newest = /^## \[?(\d+\.\d+\.\d+)/m.exec(changelog)?.[1];
    assertEquals(newest ?? version, version);
  });
});
