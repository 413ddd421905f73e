import type { Database, Queryable } from "../db/database.ts";

/** Seed of the advisory locks, so that they are no one else's ("look"). */
const LOCK_SEED = 0x6c6f6f6b;
/** A relay that is stopped in the middle must not keep its cache's lock for good. */
const IDLE_MS_MAX = 10_000;
/** How often a cache that has nothing to do says that it is there. */
const SEEN_MS = 10_000;
/** How long a cache may be away at the least before it is forgotten. */
const EXPIRY_MS_MIN = 3_600_000;
/** Past these a replay clears the cache instead: quicker, and as right. */
const REPLAY_ROWS_MAX = 100_000;
const REPLAY_IDS_MAX = 10_000;
/** Past this many open rows the backlog is reported as this many: counting is bounded too. */
const BACKLOG_MAX = 10_000;

/** An id that a cache has been told of. */
export interface AppliedRow {
  /** The table, as `lookaside_watch` was given it. */
  readonly table_name: string;
  /** `null`: the whole table. */
  readonly id: string | null;
}

/** A place among the rows, which are taken in this order: that of the index. */
export interface Place {
  /** The transaction that wrote the row. */
  readonly xid: string;
  readonly id: string;
}

/** A row that the triggers wrote. */
export interface OutboxRow extends Place {
  readonly table_name: string;
  readonly ids: readonly string[] | null;
}

/** A cache as it is registered. */
export interface Registration {
  readonly registration: string;
  readonly reset: boolean;
}

/** How a cache stands. */
export interface Standing {
  /** Whether the cache has not been noted as seen for a while. */
  readonly unseen: boolean;
  /** The feed that relayed rows last; `null`: none has. */
  readonly relay: string | null;
}

/** The findings of one look at the outbox. */
export interface Glance extends Standing {
  /** How long the first open row has been there, in milliseconds; `null`: none is open. */
  readonly openMs: number | null;
}

/** The rows that a relay finds in the outbox. */
export interface Position extends Standing {
  /** The oldest transaction that ran: every lower one had ended, and its rows could be seen. */
  readonly horizon: string;
  /** The first open rows. */
  readonly rows: readonly OutboxRow[];
}

/**
 * A row is open for cache `c` while `c` has not applied it. Those below the watermark are applied.
 *
 * Above it there are few rows, but Postgres takes them for a third of all that are kept. `OFFSET 0` has
 * it look each one up: otherwise it would read all that was ever applied to find out about one.
 */
const OPEN = `o.xid >= c.watermark AND NOT EXISTS (
    SELECT 1 FROM lookaside_applied a WHERE a.outbox_id = o.id AND a.cache = c.name OFFSET 0
  )`;

/** The cache `c`, if it is registered and reset. */
const REGISTERED = `c.name = $1 AND c.reset_at IS NOT NULL
  AND c.watermark <= pg_snapshot_xmax(pg_current_snapshot())`;

const STANDING = `c.seen_at < clock_timestamp() - INTERVAL '${SEEN_MS} ms' AS unseen,
  c.relay::TEXT AS relay`;

/** The statements of one cache's relay. `xid8` passes the drivers as text. */
export class Outbox {
  readonly #database: Database;
  readonly #cache: string;

  constructor(database: Database, cache: string) {
    this.#database = database;
    this.#cache = cache;
  }

  /** The clock of Postgres. */
  async now(): Promise<string> {
    const rows = await this.#database.query<{ now: string }>(
      "SELECT clock_timestamp()::TEXT AS now",
    );
    return only(rows).now;
  }

  /** Registers the cache unless it is. Answers how it is registered. */
  async register(): Promise<Registration> {
    // A watermark of the future is of another server, whose dump this database was restored from.
    await this.#database.query(
      `DELETE FROM lookaside_caches
       WHERE name = $1 AND watermark > pg_snapshot_xmax(pg_current_snapshot())`,
      [this.#cache],
    );
    await this.#database.query(
      `INSERT INTO lookaside_caches (name, watermark)
       VALUES ($1, pg_snapshot_xmin(pg_current_snapshot())) ON CONFLICT (name) DO NOTHING`,
      [this.#cache],
    );
    return only(
      await this.#database.query<Registration>(
        `SELECT registration::TEXT AS registration, reset_at IS NOT NULL AS reset
         FROM lookaside_caches WHERE name = $1`,
        [this.#cache],
      ),
    );
  }

  /** Notes that the cache was reset after it was registered so. Answers whether it still is. */
  async noteReset({ registration }: Registration): Promise<boolean> {
    const rows = await this.#database.query(
      `UPDATE lookaside_caches SET reset_at = clock_timestamp(), seen_at = clock_timestamp()
       WHERE name = $1 AND registration = $2::TEXT::UUID RETURNING 1`,
      [this.#cache, registration],
    );
    return rows.length > 0;
  }

  /** Whether the cache was reset within the last `windowMs`. */
  async resetWithin(windowMs: number): Promise<boolean> {
    const rows = await this.#database.query(
      `SELECT 1 FROM lookaside_caches
       WHERE name = $1 AND reset_at > clock_timestamp() - $2::FLOAT8 * INTERVAL '1 ms'`,
      [this.#cache, windowMs],
    );
    return rows.length > 0;
  }

  /** Forgets the cache. */
  async unregister(): Promise<void> {
    await this.#database.query("DELETE FROM lookaside_caches WHERE name = $1", [this.#cache]);
  }

  /** Takes this cache's lock until the transaction ends. Answers whether it was free. */
  async lock(transaction: Queryable): Promise<boolean> {
    const rows = await transaction.query<{ taken: boolean }>(
      `SELECT pg_try_advisory_xact_lock(hashtextextended($1, ${LOCK_SEED})) AS taken,
         set_config('idle_in_transaction_session_timeout', '${IDLE_MS_MAX}', true)`,
      [this.#cache],
    );
    return only(rows).taken;
  }

  /** A look at the outbox, without a lock; `undefined`: the cache is not registered and reset. */
  async glance(): Promise<Glance | undefined> {
    const [glance] = await this.#database.query<Glance>(
      `SELECT ${STANDING}, (
         SELECT (EXTRACT(EPOCH FROM clock_timestamp() - o.created_at) * 1000)::FLOAT8
         FROM lookaside_outbox o WHERE ${OPEN} ORDER BY o.xid, o.id LIMIT 1
       ) AS "openMs"
       FROM lookaside_caches c WHERE ${REGISTERED}`,
      [this.#cache],
    );
    return glance;
  }

  /**
   * The position of the cache, and its first open rows behind `after`; `undefined`: it is not registered
   * and reset.
   *
   * One statement, which sees one snapshot. With one for the rows, and then one for the horizon:
   *
   * ```text
   * 1. the relay selects, and finds nothing
   * 2. a writer commits a row of transaction 700
   * 3. the relay asks for the oldest running transaction: 701, and passes 700 over for good
   * ```
   *
   * Behind the lock, which is a statement of its own: a snapshot from before it was granted would show
   * as open what the relay before has applied.
   */
  async open(
    transaction: Queryable,
    after: Place,
    rowsMax: number,
  ): Promise<Position | undefined> {
    type Found = OutboxRow | Record<keyof OutboxRow, null>;
    const found = await transaction.query<Omit<Position, "rows"> & Found>(
      `SELECT pg_snapshot_xmin(pg_current_snapshot())::TEXT AS horizon, ${STANDING},
         o.xid::TEXT AS xid, o.id::TEXT AS id, o.table_name, o.ids
       FROM lookaside_caches c LEFT JOIN LATERAL (
         SELECT o.xid, o.id, o.table_name, o.ids FROM lookaside_outbox o
         WHERE ${OPEN} AND (o.xid, o.id) > ($2::TEXT::XID8, $3::BIGINT)
         ORDER BY o.xid, o.id LIMIT $4
       ) AS o ON TRUE WHERE ${REGISTERED} ORDER BY o.xid, o.id`,
      [this.#cache, after.xid, after.id, rowsMax],
    );
    const [first] = found;
    if (first === undefined) return undefined;
    const { horizon, unseen, relay } = first;
    return { horizon, unseen, relay, rows: found.filter((row) => row.id !== null) };
  }

  /**
   * Notes that the cache was here, that `rows` were applied and by which feed, and, if `watermark` is
   * given, that the cache has all that is below it.
   */
  async note(
    transaction: Queryable,
    rows: readonly OutboxRow[],
    { feed, watermark }: { readonly feed: string; readonly watermark: string | null },
  ): Promise<void> {
    await transaction.query(
      `WITH applied AS (
         INSERT INTO lookaside_applied (cache, outbox_id)
         SELECT $1, unnest($2::BIGINT[]) ON CONFLICT DO NOTHING
       )
       UPDATE lookaside_caches SET seen_at = clock_timestamp(),
         relay = COALESCE($3::TEXT::UUID, relay),
         watermark = GREATEST(watermark, COALESCE($4::TEXT::XID8, watermark))
       WHERE name = $1`,
      [this.#cache, rows.map(({ id }) => id), rows.length > 0 ? feed : null, watermark],
    );
  }

  /** Whether a row that was written by `time` is open; `undefined`: the cache is not registered. */
  async isOpen(time: string): Promise<boolean | undefined> {
    const [cache] = await this.#database.query<{ open: boolean }>(
      `SELECT EXISTS (
         SELECT 1 FROM lookaside_outbox o WHERE ${OPEN} AND o.created_at <= $2::TEXT::TIMESTAMPTZ
       ) AS open FROM lookaside_caches c WHERE c.name = $1 AND c.reset_at IS NOT NULL`,
      [this.#cache, time],
    );
    return cache?.open;
  }

  /**
   * The rows that the cache has applied within the last `windowMs`, each id once, however often it changed.
   * `undefined`: too much to list.
   */
  async appliedWithin(windowMs: number): Promise<AppliedRow[] | undefined> {
    const recent = `FROM lookaside_applied a
      WHERE a.cache = $1 AND a.applied_at > clock_timestamp() - $2::FLOAT8 * INTERVAL '1 ms'`;
    const counted = await this.#database.query<{ count: number }>(
      `SELECT count(*)::INTEGER AS count FROM (SELECT 1 ${recent} LIMIT $3) AS recent`,
      [this.#cache, windowMs, REPLAY_ROWS_MAX + 1],
    );
    if (only(counted).count > REPLAY_ROWS_MAX) return undefined;
    const rows = await this.#database.query<AppliedRow>(
      `SELECT DISTINCT o.table_name, changed.id
       FROM (SELECT a.outbox_id ${recent}) AS a JOIN lookaside_outbox o ON o.id = a.outbox_id
       LEFT JOIN LATERAL unnest(o.ids) AS changed (id) ON TRUE
       LIMIT $3`,
      [this.#cache, windowMs, REPLAY_IDS_MAX + 1],
    );
    return rows.length > REPLAY_IDS_MAX ? undefined : rows;
  }

  /** How many rows are open, at most 10,000, and the age of the oldest. */
  async backlog(): Promise<{ readonly count: number; readonly lagMs: number }> {
    const rows = await this.#database.query<{ count: number; lag_ms: number }>(
      `SELECT count(*)::INTEGER AS count,
         COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(created_at)) * 1000, 0)::FLOAT8 AS lag_ms
       FROM (
         SELECT o.created_at FROM lookaside_caches c JOIN lookaside_outbox o ON ${OPEN}
         WHERE c.name = $1 ORDER BY o.xid, o.id LIMIT $2
       ) AS open`,
      [this.#cache, BACKLOG_MAX],
    );
    const { count, lag_ms: lagMs } = only(rows);
    return { count, lagMs };
  }

  /** Forgets the other caches that have long been away: nothing is kept for them any more. */
  async expireCaches(windowMs: number): Promise<void> {
    await this.#database.query(
      `DELETE FROM lookaside_caches
       WHERE name <> $1 AND seen_at < clock_timestamp() - $2::FLOAT8 * INTERVAL '1 ms'`,
      [this.#cache, Math.max(EXPIRY_MS_MIN, windowMs)],
    );
  }

  /**
   * Removes rows that are older than the window, that every cache has behind its watermark, and that
   * none has applied within the window. Answers how many, at most `rowsMax`.
   *
   * A cache that registers meanwhile misses nothing: the rows were committed before, and it is reset.
   */
  async removeRows(windowMs: number, rowsMax: number): Promise<number> {
    const rows = await this.#database.query<{ count: number }>(
      `WITH removed AS (
         DELETE FROM lookaside_outbox WHERE id IN (
           SELECT o.id FROM lookaside_outbox o
           WHERE o.xid < COALESCE(
               (SELECT watermark FROM lookaside_caches ORDER BY watermark LIMIT 1),
               pg_snapshot_xmax(pg_current_snapshot()))
             AND o.created_at < clock_timestamp() - $1::FLOAT8 * INTERVAL '1 ms'
             AND NOT EXISTS (
               SELECT 1 FROM lookaside_applied a WHERE a.outbox_id = o.id
                 AND a.applied_at >= clock_timestamp() - $1::FLOAT8 * INTERVAL '1 ms'
             )
           ORDER BY o.xid LIMIT $2 FOR UPDATE OF o SKIP LOCKED
         ) RETURNING id
       ), forgotten AS (
         DELETE FROM lookaside_applied WHERE outbox_id IN (SELECT id FROM removed)
       )
       SELECT count(*)::INTEGER AS count FROM removed`,
      [windowMs, rowsMax],
    );
    return only(rows).count;
  }

  /**
   * Removes what was noted of rows that had been removed by then. Rare: a new cache applied a row that
   * another was just removing. Answers how many, at most `rowsMax`.
   */
  async removeOrphans(rowsMax: number): Promise<number> {
    const rows = await this.#database.query(
      `DELETE FROM lookaside_applied WHERE (outbox_id, cache) IN (
         SELECT outbox_id, cache FROM lookaside_applied
         WHERE outbox_id < COALESCE((SELECT min(id) FROM lookaside_outbox), 9223372036854775807)
         ORDER BY outbox_id LIMIT $1
       ) RETURNING 1`,
      [rowsMax],
    );
    return rows.length;
  }
}

function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("Cannot relay changes: Postgres answered no row");
  return row;
}
