import postgres from "postgres";
import type { Clock, Timer } from "../runtime.ts";
import type { arrayTypes } from "./_array_text.ts";
import type { Sql } from "./_postgres_js_pool.ts";

/** How soon it is begun anew. */
const ANEW_MS = 200;

/** The parts of a {@linkcode Listening}. */
export interface ListeningOptions {
  /** One of the servers. */
  readonly url: string;
  /** As of the pool. */
  readonly settings: postgres.Options<typeof arrayTypes>;
  /** Sends `LISTEN`, and resolves once it stands. */
  readonly begin: (sql: Sql) => Promise<unknown>;
  /** The source of time. */
  readonly clock: Clock;
}

/** A `LISTEN` with an instance of its own: it must reconnect by itself, and with a delay that grows. */
export class Listening {
  /** Resolves when it stands for the first time; rejects when the first attempt fails. */
  readonly begun: Promise<unknown>;
  readonly #options: ListeningOptions;
  #sql: Sql;
  #timer: Timer | undefined;
  #ending: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: ListeningOptions) {
    this.#options = options;
    this.#sql = this.#open();
    this.begun = options.begin(this.#sql);
  }

  /** Leaves a server on which there are no notifications any more, and listens where statements now go. */
  beginAnew(): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#ending = Promise.all([this.#ending, this.#sql.end({ timeout: 0 })]);
    const sql = this.#open();
    this.#sql = sql;
    this.#timer = this.#options.clock.after(ANEW_MS, () => {
      this.#options.begin(sql).catch(() => {
        if (this.#sql === sql) this.beginAnew();
      });
    });
  }

  /** Ends it for good. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await Promise.all([this.#ending, this.#sql.end({ timeout: 0 })]);
  }

  #open(): Sql {
    return postgres(this.#options.url, {
      ...this.#options.settings,
      backoff: (attempt) => Math.min(attempt * 0.05, 2),
    });
  }
}
