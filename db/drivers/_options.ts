import type { DatabaseOptions } from "../database.ts";
import { systemClock } from "../runtime.ts";

/** Time that running statements have to finish when the pool closes. */
export const CLOSE_TIMEOUT_MS = 5_000;

type WithoutDefault = "password" | "ca" | "onListenError";

/** The options of a driver, with the defaults of those that were not given. */
export interface DriverOptions
  extends Required<Omit<DatabaseOptions, WithoutDefault>>, Pick<DatabaseOptions, WithoutDefault> {
  /** The longest wait for an answer of the server, or for a connection. */
  readonly limitMs: number;
}

/** Fills in the defaults. */
export function withDefaults(options: DatabaseOptions): DriverOptions {
  const { connectTimeoutMs = 2_000, statementTimeoutMs = 5_000 } = options;
  return {
    poolMax: 20,
    queueMax: 1_000,
    connectTimeoutMs,
    statementTimeoutMs,
    clock: systemClock,
    ...options,
    limitMs: connectTimeoutMs + statementTimeoutMs,
  };
}
