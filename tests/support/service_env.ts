import { requiredEnv } from "./test_database.ts";

/** The environment of a service on the suite's Redis, where it has keys of its own, and time on a busy machine. */
export function serviceEnv(databaseUrl: string): Record<string, string> {
  return {
    REDIS_URL: requiredEnv("REDIS_URL"),
    DATABASE_URL: databaseUrl,
    CACHE_PREFIX: `t${crypto.randomUUID().slice(0, 8)}`,
    REDIS_COMMAND_TIMEOUT_MS: "2000",
  };
}
