import postgres from "postgres";
import type { Clock } from "../runtime.ts";
import type { arrayTypes } from "./_array_text.ts";
import { withDeadline } from "./_deadline.ts";

/** How long closing may take once nothing runs. */
const END_TIMEOUT_MS = 500;

/** An instance of postgres.js. */
export type Sql = ReturnType<typeof postgres<Types>>;
type Types = typeof arrayTypes;

/** Whether a server says by this parameter that it takes no writes. From Postgres 14 on it tells unasked. */
export function saysReadOnly(name: string, value: string): boolean {
  return value === "on" && (name === "in_hot_standby" || name === "default_transaction_read_only");
}

/** One postgres.js instance, with what runs on it, and how often its server has answered. */
export class Pool {
  /** The instance. */
  readonly sql: Sql;
  /** Grows with every answer, refusals included. */
  answers = 0;
  /** Whether its server has said that it takes no writes. */
  isReadOnly = false;
  /** The server that it was opened for. */
  readonly server: URL;
  readonly #clock: Clock;
  #running = 0;
  #drained: PromiseWithResolvers<void> | undefined;

  /** Connects with the first statement. */
  constructor(
    server: URL,
    options: postgres.Options<Types>,
    clock: Clock,
  ) {
    this.server = server;
    this.sql = postgres(server.href, {
      ...options,
      onparameter: (name, value) => {
        if (saysReadOnly(name, value)) this.isReadOnly = true;
      },
    });
    this.#clock = clock;
  }

  /** Statements and transactions that have not ended. Each has, or waits for, a connection. */
  get running(): number {
    return this.#running;
  }

  /** Counts `run` among what runs here. */
  async track<T>(run: () => Promise<T>): Promise<T> {
    this.#running++;
    try {
      return await run();
    } finally {
      this.#running--;
      if (this.#running === 0) this.#drained?.resolve();
    }
  }

  /**
   * Waits up to `timeoutMs` for what runs here, then closes every connection.
   *
   * postgres.js can wait by itself, but for good after it lost a connection: it still takes the
   * statement that broke with it for a running one.
   */
  async end(timeoutMs: number): Promise<void> {
    if (this.#running > 0) {
      this.#drained = Promise.withResolvers();
      // What has not finished by then is cut off by the next line.
      await withDeadline(this.#drained.promise, timeoutMs, this.#clock).catch(() => undefined);
    }
    await this.sql.end({ timeout: END_TIMEOUT_MS / 1_000 });
  }
}
