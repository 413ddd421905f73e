/** The guarantees with one Redis hold with several: the same suites on every topology. */
import { afterAll, beforeAll, describe } from "@std/testing/bdd";
import { describeCacheOn } from "../../tests/cache/conformance.ts";
import { freshPrefix } from "../../tests/cache/redis/nodes.ts";
import { describeRaces } from "../../tests/cache/redis/races.ts";
import { SEVERAL_SERVERS, type Stage } from "../../tests/cache/redis/stage.ts";
import { describeStampede } from "../../tests/cache/redis/stampede.ts";

for (const [name, start] of Object.entries(SEVERAL_SERVERS)) {
  describe(`What holds on one Redis also holds on ${name}`, () => {
    let stage: Stage;

    beforeAll(async () => {
      stage = await start();
    });
    afterAll(() => stage[Symbol.asyncDispose]());

    describeCacheOn({ name, options: () => ({ url: stage.serviceUrl, prefix: freshPrefix() }) });
  });
  describeRaces(name, start);
  describeStampede(name, start);
}
