// @ts-types="./_pg.d.ts"
import pg, { type Pool, type Taken } from "pg";
import { DatabaseUnavailableError } from "../database.ts";
import { parsePostgresUrl } from "../postgres_url.ts";
import { DeadlineError, withDeadline } from "./_deadline.ts";
import type { DriverOptions } from "./_options.ts";
import { PgClient, PlainError } from "./_pg_client.ts";
import { told } from "./_pg_error.ts";
import { unavailable } from "./_unavailable.ts";

/** The time in which connections must close. */
const END_TIMEOUT_MS = 500;
/** The age at which a connection is replaced. */
const LIFETIME_S = 45 * 60;

/**
 * Connections to one of the servers in a URL. The pool turns to the next server if the current one cannot
 * be reached, takes no writes or does not answer.
 */
export class PgPool {
  readonly #options: DriverOptions;
  readonly #onLeft: () => void;
  readonly #urls: readonly [URL, ...URL[]];
  readonly #pool: Pool<PgClient>;
  readonly #clients = new Set<PgClient>();
  /** Counts how often a server was left. Connections of an earlier era are closed instead of lent. */
  #era = 0;
  #closed = false;

  /** Opens nothing yet. Calls `onLeft` when it leaves a server for the next one. */
  constructor(options: DriverOptions, onLeft: () => void) {
    this.#options = options;
    this.#onLeft = onLeft;
    this.#urls = parsePostgresUrl(options.url).urls;
    const open = () => this.open();
    this.#pool = new pg.Pool({
      // `pg` creates clients with `new`, which passes on the object that a function returns.
      Client: function () {
        return open();
      } as unknown as new () => PgClient,
      max: options.poolMax,
      idleTimeoutMillis: 0,
      maxLifetimeSeconds: LIFETIME_S,
    });
    // The error of an idle connection that was lost. The next statement opens another connection.
    this.#pool.on("error", () => {});
  }

  /** The number of servers. */
  get serversCount(): number {
    return this.#urls.length;
  }

  /** Creates a client for the current server. It is closed with the pool at the latest. */
  open(): PgClient {
    const era = this.#era;
    const url = this.#urls[era % this.#urls.length] ?? this.#urls[0];
    const client = new PgClient(this.#options, { url, era });
    client.onRefused = (error) => {
      const isAway = told(error, "it cannot be reached") instanceof DatabaseUnavailableError;
      if (isAway && this.#urls.length > 1) this.leave(client);
    };
    this.#clients.add(client);
    void client.ended.then(() => this.#clients.delete(client));
    return client;
  }

  /**
   * Lends a connection to `use`.
   *
   * @throws {DatabaseUnavailableError} No connection is available in time.
   */
  async lend<T>(use: (client: PgClient) => Promise<T>): Promise<T> {
    const client = await this.#take();
    try {
      return await use(client);
    } finally {
      this.#giveBack(client);
    }
  }

  /** Turns to the next server, or to new connections if there is only one, unless that has been done. */
  leave({ era }: PgClient): void {
    if (era !== this.#era) return;
    this.#era++;
    this.#onLeft();
  }

  /** Refuses to lend connections, and closes them all once `done` resolves. */
  async close(done: Promise<unknown>): Promise<void> {
    this.#closed = true;
    await done;
    this.#pool.end().catch(() => undefined); // closed before
    const ended = Promise.all([...this.#clients].map((client) => client.ended));
    await withDeadline(ended, END_TIMEOUT_MS, this.#options.clock).catch(() => {
      for (const client of this.#clients) client.destroy();
    });
    await ended;
  }

  async #take(): Promise<Taken<PgClient>> {
    for (let others = this.#urls.length - 1;;) {
      if (this.#closed) throw unavailable("the pool was closed", undefined);
      const era = this.#era;
      try {
        const client = await this.#connection();
        if (this.#isOfUse(client)) return client;
        // The server of this connection has been left already, or takes no writes any more.
        if (client.isReadOnly) this.leave(client);
        this.#giveBack(client);
      } catch (error) {
        if (error instanceof PlainError) continue;
        if (era === this.#era || others-- === 0) throw told(error, "it cannot be reached");
      }
    }
  }

  /** Takes a connection. The wait for one that is lent is bounded here, opening one by the client. */
  async #connection(): Promise<Taken<PgClient>> {
    const connection = this.#pool.connect();
    if (this.#pool.waitingCount <= this.#pool.idleCount) return await connection;
    const { limitMs, clock } = this.#options;
    return await withDeadline(connection, limitMs, clock).catch((error) => {
      if (error instanceof DeadlineError) {
        connection.then((client) => this.#giveBack(client), () => undefined);
      }
      throw error;
    });
  }

  #isOfUse(client: PgClient): boolean {
    return client.era === this.#era && !client.isReadOnly && !client.isSpent;
  }

  #giveBack(client: Taken<PgClient>): void {
    const isOfUse = this.#isOfUse(client);
    if (!isOfUse) client.destroy();
    client.release(!isOfUse);
  }
}
