import { requiredEnv } from "../support/test_database.ts";
import { describeCacheOn } from "./conformance.ts";

/** No two tests share a key, whatever ran before them on the same server. */
function prefix(): string {
  return `t-${crypto.randomUUID()}`;
}

describeCacheOn({ name: "memory:", options: () => ({ url: "memory:" }) });
describeCacheOn({
  name: "redis:",
  options: () => ({ url: requiredEnv("REDIS_URL"), prefix: prefix() }),
});
