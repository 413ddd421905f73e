import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { startService } from "../../tools/servers/service.ts";

describe("the service, with the permissions it has", () => {
  it("describes itself and shows its figures, code for which is loaded only then", async () => {
    await using database = await createSeededDatabase(1);
    await using service = await startService({
      env: { REDIS_URL: "memory:", DATABASE_URL: database.url },
    });
    for (
      const [path, text] of [
        ["/openapi.json", '"openapi":"3.1.1"'],
        ["/docs", "<h1>Lookaside API</h1>"],
        ["/metrics", "lookaside_coherent 1"],
      ] as const
    ) {
      const answer = await service.fetch(path);
      const body = await answer.text();
      assertEquals(answer.status, 200, body);
      assert(body.includes(text), body);
    }
  });
});
