import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { weakEtag } from "../../cache/hono/mod.ts";
import { entityTag } from "../../web/entity_tag.js";

describe("entityTag()", () => {
  it("answers the tag that the service gives the same row", () => {
    const rows = [
      { id: 1, name: "Jane Doe", bio: null },
      { id: 2147483647, name: 'quoted "name" \\ 🙂', bio: "Written at 11:20:33\u202fAM" },
      ...Array.from({ length: 200 }, (_, id) => ({ id, bio: crypto.randomUUID().repeat(id) })),
    ];
    for (const row of rows) assertEquals(entityTag(row), weakEtag([JSON.stringify(row)]));
  });
});
