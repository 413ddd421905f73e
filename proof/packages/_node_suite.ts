/**
 * The conformance suite as a program of Node: `node_test.ts` bundles and runs it.
 *
 * @module
 */
import process from "node:process";
import { describeCacheOn } from "../../tests/cache/conformance.ts";

describeCacheOn({ name: "memory:", options: () => ({ url: "memory:" }) });
describeCacheOn({
  name: "redis:",
  options: () => ({ url: process.env.REDIS_URL ?? "", prefix: `t-${crypto.randomUUID()}` }),
});
