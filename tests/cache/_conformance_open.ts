import type { Cache, CacheOptions } from "../../cache/mod.ts";

/** Opens a cache of the topology under test, ready for its first command. */
export type Open = (options?: CacheOptions) => Promise<Cache>;
