import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { Cache } from "../../cache/mod.ts";
import { changesDatabase } from "../../db/changes_database.ts";
import { postgresChanges } from "../../changes/postgres_changes.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";

describe("postgresChanges()", () => {
  it("has a cache read what was written by any means, once it has caught up", async () => {
    await using seeded = await createSeededDatabase(3);
    await using database = connect({ url: seeded.url, poolMax: 3 });
    // Nobody is told what was invalidated.
    const changes = postgresChanges(changesDatabase(database));
    await using cache = new Cache({ changes });
    await cache.changes.caughtUp();
    const load = async () =>
      (await database.query<{ name: string }>("SELECT name FROM users WHERE id = 1"))[0]?.name;
    for (const name of ["Ada", "Grace", "Barbara"]) {
      await database.query("UPDATE users SET name = $1 WHERE id = 1", [name]);
      await cache.changes.caughtUp();
      assertEquals((await cache.getOrLoad("users:1", load, { tags: ["users:*"] })).value(), name);
    }
  });
});
