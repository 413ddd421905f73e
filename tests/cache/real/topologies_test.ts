/**
 * What a cache promises on one Redis it promises on several: the same suites on every arrangement.
 */
import { afterAll, beforeAll, describe } from "@std/testing/bdd";
import { describeCacheOn } from "../conformance.ts";
import { freshPrefix } from "./_nodes.ts";
import { describeRaces } from "./_races.ts";
import { SEVERAL_SERVERS, type Stage } from "./_stage.ts";
import { describeStampede } from "./_stampede.ts";

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
