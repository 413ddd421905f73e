import { freePort } from "../../tools/servers/free_port.ts";
import type { StartEnvironment } from "../../tools/servers/start_command.ts";
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

/** The same for two processes on a free port. */
export function workersEnv(databaseUrl: string): StartEnvironment {
  return {
    ...serviceEnv(databaseUrl),
    HOST: "127.0.0.1",
    PORT: String(freePort()),
    WORKERS: "2",
  };
}
