import type { ChangesDatabase } from "./database.ts";
import { ORIGIN } from "./_open_rows_sql.ts";

/** Options of a {@linkcode Registration}. */
export interface RegistrationOptions {
  /** Invalidates everything in the cache, for this registration. */
  readonly reset: (registration: string) => Promise<void>;
  /** Time for which applied rows are kept for the cache. */
  readonly keepMs: number;
  /** True if the registration is no longer needed. */
  readonly isClosed: () => boolean;
}

/** The registration of a cache: from then on, rows are kept for it. */
export class Registration {
  readonly #query: ChangesDatabase["query"];
  readonly #cache: string;
  readonly #options: RegistrationOptions;
  #registering: Promise<void> | undefined;
  #hasReset = false;

  constructor(database: ChangesDatabase, cache: string, options: RegistrationOptions) {
    this.#query = (sql, parameters) => database.query(sql, parameters);
    this.#cache = cache;
    this.#options = options;
  }

  /** True if this process has reset the cache. */
  get hasReset(): boolean {
    return this.#hasReset;
  }

  /**
   * Registers the cache and resets it, unless both are done already.
   *
   * ```text
   * 1. writer: UPDATE, not committed; its row carries transaction id 700
   * 2. cache: registers with a snapshot in which 700 is open; commits
   * 3. cache: resets
   * 4. reader: loads the old version, and fills
   * 5. writer: commits; its row is not in the snapshot: the relay finds it, and invalidates 4
   * ```
   *
   * A change committed before step 2 has no row for this cache and needs none: a load that begins after the
   * reset finds it in Postgres, and a load that began before cannot fill. So the registration must be committed
   * before the reset. The reset is noted last, because after a crash in between it must be repeated.
   */
  register(): Promise<void> {
    // Once for relaying and catching up together: a second reset would empty a cache that is in use.
    this.#registering ??= this.#register().finally(() => this.#registering = undefined);
    return this.#registering;
  }

  /** Registers again if the database turns out to be another one, or the same at an earlier time. */
  async renew(isEarlier = false): Promise<void> {
    if (isEarlier) await this.delete();
    if (isEarlier || !await this.#isSameServer()) await this.register();
  }

  /** True if the cache was reset within the replay window. */
  async wasResetLately(): Promise<boolean> {
    const rows = await this.#query(
      `SELECT 1 AS one FROM lookaside.caches
       WHERE name = $1::TEXT AND reset_at > clock_timestamp() - keep`,
      [this.#cache],
    );
    return rows.length > 0;
  }

  /** Deletes the registration. */
  async delete(): Promise<void> {
    await this.#query(
      `WITH gone AS (DELETE FROM lookaside.caches WHERE name = $1::TEXT RETURNING id)
       DELETE FROM lookaside.looks l USING gone WHERE l.cache = gone.id`,
      [this.#cache],
    );
  }

  async #register(): Promise<void> {
    while (!this.#options.isClosed()) {
      const { cache, reset } = await this.#insert();
      if (reset) return;
      await this.#options.reset(cache);
      this.#hasReset = true;
      // If the registration was replaced meanwhile, the reset came too early.
      if (await this.#noteReset(cache)) return;
    }
  }

  /** Inserts the registration, unless there is one. Answers it. */
  async #insert(): Promise<{ readonly cache: string; readonly reset: boolean }> {
    // Delete a registration of another server, from whose dump or copy this one was made, of a future state, after a
    // restore to an earlier time, or without a look, which a dump may leave out.
    await this.#query(
      `DELETE FROM lookaside.caches c WHERE c.name = $1::TEXT AND (c.origin <> ${ORIGIN} OR ((
         SELECT pg_snapshot_xmax(l.seen) FROM lookaside.looks l WHERE l.cache = c.id
         ORDER BY l.look DESC LIMIT 1
       ) > pg_snapshot_xmax(pg_current_snapshot())) IS NOT FALSE)`,
      [this.#cache],
    );
    const { keepMs } = this.#options;
    const keep = "$2::TEXT::FLOAT8 * INTERVAL '1 ms'";
    await this.#query(
      `WITH added AS (
         INSERT INTO lookaside.caches AS c (name, origin, keep) VALUES ($1::TEXT, ${ORIGIN}, ${keep})
         ON CONFLICT (name) DO NOTHING RETURNING c.id
       ) INSERT INTO lookaside.looks (cache, look, seen) SELECT id, 0, pg_current_snapshot() FROM added`,
      [this.#cache, keepMs],
    );
    // Never less: entries of a process with other options, or of the previous release, may live longer.
    await this.#query(
      `UPDATE lookaside.caches SET keep = ${keep} WHERE name = $1::TEXT AND keep < ${keep}`,
      [this.#cache, keepMs],
    );
    const [row] = await this.#query<{ cache: string; reset: boolean }>(
      `SELECT id::TEXT AS cache, reset_at IS NOT NULL AS reset FROM lookaside.caches
       WHERE name = $1::TEXT`,
      [this.#cache],
    );
    if (row === undefined) throw new Error("Cannot register the cache: its registration is gone");
    return row;
  }

  /** Notes that the cache was reset after this registration. Answers true if the registration still exists. */
  async #noteReset(cache: string): Promise<boolean> {
    const rows = await this.#query(
      `UPDATE lookaside.caches SET reset_at = clock_timestamp() WHERE id = $1::TEXT::BIGINT
       RETURNING 1 AS one`,
      [cache],
    );
    return rows.length > 0;
  }

  /** True if the database is the one in which the cache was registered. */
  async #isSameServer(): Promise<boolean> {
    const rows = await this.#query(
      `SELECT 1 AS one FROM lookaside.caches WHERE name = $1::TEXT AND origin <> ${ORIGIN}`,
      [this.#cache],
    );
    return rows.length === 0;
  }
}
