import type { InvalidatedNames } from "@lookaside/cache";
import type { Change } from "./apply.ts";
import { type ChangedRow, namesIn } from "./_changed_row.ts";
import type { ChangesDatabase } from "./database.ts";
import {
  IS_HERE,
  IS_KNOWN,
  IS_OF_THE_PAST,
  LAST_LOOK,
  NAMES_MAX,
  OPEN_ROWS,
  openRows,
  SETTLED,
  untilFull,
} from "./_open_rows_sql.ts";

/** Interval at which an idle cache reports, by noting a look, that it still exists. */
const SEEN_MS = 10_000;
/** Time that a row is left to a writer that has announced to invalidate it itself. */
export const GRACE_MS = 1_000;
/** Beyond this many rows, a replay clears the cache instead: faster, and equally correct. */
const REPLAY_ROWS_MAX = 100_000;
const REPLAY_NAMES_MAX = 10_000;
/** The largest reported backlog: counting open rows is limited too. */
const BACKLOG_MAX = 10_000;

/** The server's time in whole milliseconds, rounded down. */
const NOW_MS = "floor(date_part('epoch', clock_timestamp()) * 1000::FLOAT8)::BIGINT";

/** True unless the queue of notifications, which any role may fill, is about to refuse more. */
const HAS_ROOM = "pg_notification_queue_usage() < 0.5::FLOAT8";

/** Notifies every relay. */
const RING = "pg_notify('lookaside_changes', '')::TEXT";

/** Makes a statement not wait for the disk. */
const UNSYNCED = "WHERE set_config('synchronous_commit', 'off', TRUE) = 'off'";

/** A row that the triggers wrote. */
export interface OutboxRow extends ChangedRow {
  /** The transaction that wrote the row. */
  readonly xid: string;
  readonly id: string;
  /** The mark of the writer. */
  readonly writer: string | null;
  /** The names that this writer has reported as invalidated; `null`: it has not reported. */
  readonly settled: InvalidatedNames | null;
  /** True if the writer belongs to this cache. */
  readonly isKnown: boolean;
  /** Time since it was written, in milliseconds. */
  readonly openMs: number;
}

/** The end of a write with the names that its process invalidated. No names: the write or the invalidation failed. */
export interface Settled {
  readonly mark: string;
  readonly names: InvalidatedNames;
}

/** How far a cache is with applying rows. */
export interface Progress {
  /** The id of its registration. */
  readonly cache: string;
  /** The number of the last look. */
  readonly look: string;
  /** Snapshot of the last complete look: everything visible in it is applied. */
  readonly seen: string;
  /** Snapshot of an incomplete look, which took only a part of the rows; `null`: there is none. */
  readonly pass: string | null;
  /** Snapshot of this look. */
  readonly now: string;
  /** The server's time at this look, in milliseconds. */
  readonly nowMs: number;
  /** Time since the last look was noted, in milliseconds. */
  readonly agoMs: number;
  /** True if that is so long ago that the cache must report that it still exists. */
  readonly mustReport: boolean;
  /** True if there are other caches. */
  readonly others: boolean;
  /** The relay that last relayed rows; `null`: none has. */
  readonly relay: string | null;
  /** Time since the first open row was written, in milliseconds; `null`: none is open. */
  readonly openMs: number | null;
}

/** The results of a look. */
export interface Look extends Progress {
  /** The first open rows. */
  readonly rows: readonly OutboxRow[];
  /** True if there may be others. */
  readonly isPart: boolean;
}

/** The record of a relay's look. */
export interface Note {
  /** Snapshot of the changes that are applied from now on. */
  readonly seen: string;
  /** The incomplete pass, and the last row that it took. */
  readonly pass?: { readonly snapshot: string; readonly after: OutboxRow } | undefined;
  /** The relay, if it has applied rows. */
  readonly relay: string | undefined;
  /** Time for which the relay promises to poll; `undefined`: no promise. */
  readonly promiseMs?: number | undefined;
  /** True if the relays of other caches must be notified: writers do not notify during a promise. */
  readonly wakes: boolean;
}

/** The look from which a replay of cache `c` starts. */
const REPLAY_FROM = `CROSS JOIN LATERAL (
  (SELECT l.seen, 1 AS choice FROM lookaside.looks l
   WHERE l.cache = c.id AND l.at <= clock_timestamp() - c.keep ORDER BY l.look DESC LIMIT 1)
  UNION ALL
  (SELECT l.seen, 2 FROM lookaside.looks l WHERE l.cache = c.id ORDER BY l.look LIMIT 1)
  ORDER BY choice LIMIT 1
) l`;

/** The statements of one cache's relay about rows and looks. Each is a transaction of its own, and answers only texts and numbers. */
export class Outbox {
  readonly #query: ChangesDatabase["query"];
  readonly #cache: string;

  constructor(database: ChangesDatabase, cache: string) {
    this.#query = (sql, parameters) => database.query(sql, parameters);
    this.#cache = cache;
  }

  /** Answers the progress of the cache and its first open rows; `undefined`: it is not registered here, or not reset yet. */
  async look(rowsMax: number): Promise<Look | undefined> {
    // The rows are one text, because drivers are slow with many columns.
    const [found] = await this.#query<
      Omit<Progress, "openMs" | "mustReport"> & { readonly rows: string | null }
    >(
      `SELECT c.id::TEXT AS cache, l.look::TEXT AS look, l.seen::TEXT AS seen, l.pass::TEXT AS pass,
         pg_current_snapshot()::TEXT AS now, ${NOW_MS}::FLOAT8 AS "nowMs",
         (date_part('epoch', clock_timestamp() - l.at) * 1000::FLOAT8) AS "agoMs",
         (SELECT count(*) > 1 FROM lookaside.caches) AS others, l.feed AS relay, (
           SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
             'xid', o.xid::TEXT, 'id', o.id::TEXT, 'label', o.label, 'keys', o.keys,
             'values', o.column_values, 'writer', o.writer, 'settled', ${SETTLED}, 'isKnown', ${IS_KNOWN},
             'openMs', date_part('epoch', clock_timestamp() - o.created_at) * 1000::FLOAT8
           ) ORDER BY o.xid, o.id)::TEXT FROM (${untilFull(OPEN_ROWS)}) o
         ) AS rows
       FROM lookaside.caches c ${LAST_LOOK} WHERE c.name = $1::TEXT AND c.reset_at IS NOT NULL AND ${IS_HERE} AND ${IS_OF_THE_PAST}`,
      [this.#cache, rowsMax],
    );
    if (found === undefined) return undefined;
    const rows = JSON.parse(found.rows ?? "[]") as OutboxRow[];
    const mustReport = found.agoMs > SEEN_MS;
    const isPart = isFull(rows, rowsMax);
    return { ...found, mustReport, rows, isPart, openMs: rows[0]?.openMs ?? null };
  }

  /**
   * Notes which rows are applied. Answers false if another relay has noted a look meanwhile: this look then does
   * not count.
   */
  async note({ cache, look }: Progress, note: Note): Promise<boolean> {
    // Not durable at once: after a crash, rows whose note is lost are applied again.
    const rows = await this.#query(
      `INSERT INTO lookaside.looks (cache, look, seen, pass, pass_xid, pass_id, feed, applied)
       SELECT c.id, $2::TEXT::BIGINT + 1, $3::TEXT::PG_SNAPSHOT, $4::TEXT::PG_SNAPSHOT,
         $5::TEXT::XID8, $6::TEXT::BIGINT, coalesce($7::TEXT, l.feed), $7::TEXT IS NOT NULL
       FROM lookaside.caches c ${LAST_LOOK}
       WHERE c.id = $1::TEXT::BIGINT AND ${IS_HERE} AND set_config('synchronous_commit', 'off', TRUE) = 'off'
       ON CONFLICT DO NOTHING
       RETURNING CASE WHEN $8::TEXT IS NOT NULL THEN
           setval('lookaside.doorbell'::REGCLASS, ${NOW_MS} + $8::TEXT::BIGINT)
         END IS NULL AS quiet, CASE WHEN $9::TEXT = 'yes' AND ${HAS_ROOM} THEN ${RING} END AS rung`,
      [
        cache,
        look,
        note.seen,
        note.pass?.snapshot ?? null,
        note.pass?.after.xid ?? "0",
        note.pass?.after.id ?? "0",
        note.relay ?? null,
        note.promiseMs === undefined ? null : String(note.promiseMs),
        note.wakes ? "yes" : "no",
      ],
    );
    return rows.length > 0;
  }

  /**
   * Withdraws the promise to poll, so that writers notify again. Answers the id of a transaction that began
   * after all that may have relied on the promise: each gets its id before it checks whether to notify.
   */
  async takeBackPromise(): Promise<bigint> {
    await this.askForNotifications({ rings: false });
    const rows = await this.#query<{ xid: string }>(
      `SELECT pg_current_xact_id()::TEXT AS xid ${UNSYNCED}`,
    );
    return BigInt(only(rows).xid);
  }

  /** Makes writers notify for a while from now on. Call it again before that time is over. With `rings`, also notifies. */
  async askForNotifications({ rings }: { readonly rings: boolean }): Promise<void> {
    await this.#query(
      `SELECT setval('lookaside.doorbell'::REGCLASS, ${NOW_MS})::TEXT AS bell,
         CASE WHEN $1::TEXT = 'yes' AND ${HAS_ROOM} THEN ${RING} END AS rung ${UNSYNCED}`,
      [rings ? "yes" : "no"],
    );
  }

  /** Answers the current snapshot. */
  async snapshot(): Promise<string> {
    return only(
      await this.#query<{ now: string }>("SELECT pg_current_snapshot()::TEXT AS now"),
    ).now;
  }

  /**
   * Answers whether a row that is visible in `snapshot` is open, and which relay was the last within a while;
   * `undefined`: the cache is not registered.
   */
  async isOpen(
    snapshot: string,
  ): Promise<{ readonly open: boolean; readonly relay: string | null } | undefined> {
    const [found] = await this.#query<{ open: boolean; relay: string | null }>(
      `SELECT CASE WHEN l.at > clock_timestamp() - INTERVAL '${
        2 * SEEN_MS
      } ms' THEN l.feed END AS relay,
         EXISTS (${
        openRows({
          seen: "l.seen",
          behind: ["l.pass_xid", "l.pass_id"],
          within: "pg_visible_in_snapshot(o.xid, $2::TEXT::PG_SNAPSHOT)",
          limit: "1",
        })
      }) AS open
       FROM lookaside.caches c ${LAST_LOOK} WHERE c.name = $1::TEXT AND c.reset_at IS NOT NULL AND ${IS_HERE}`,
      [this.#cache, snapshot],
    );
    return found;
  }

  /** Changes that were applied to the cache within the replay window, each once; `undefined`: too many to list. */
  async appliedLately(): Promise<Change[] | undefined> {
    const rows = openRows({
      seen: "l.seen",
      behind: ["'0'::XID8", "0::BIGINT"],
      within: "TRUE",
      limit: `${REPLAY_ROWS_MAX + 1}`,
    });
    const found = await this.#query<{ label: string; kind: string; name: string | null }>(
      `WITH rows AS MATERIALIZED (
         SELECT o.label, o.keys, o.column_values FROM lookaside.caches c ${REPLAY_FROM}
         CROSS JOIN LATERAL (${rows}) o WHERE c.name = $1::TEXT
       )
       SELECT 'too many' AS kind, '' AS label, NULL AS name FROM rows HAVING count(*) > ${REPLAY_ROWS_MAX}
       UNION ALL (
         SELECT DISTINCT 'table', label, NULL FROM rows WHERE keys IS NULL
         UNION ALL SELECT DISTINCT 'key', label, pg_catalog.unnest(keys) FROM rows
         UNION ALL SELECT DISTINCT 'value', label, pg_catalog.unnest(column_values) FROM rows
         LIMIT ${REPLAY_NAMES_MAX + 1}
       )`,
      [this.#cache],
    );
    if (found.length > REPLAY_NAMES_MAX || found[0]?.kind === "too many") return undefined;
    const changes = Map.groupBy(found, ({ label }) => label);
    return [...changes].map(([table, names]) => {
      const of = (kind: string) =>
        names.flatMap((each) => each.kind === kind ? each.name ?? [] : []);
      const whole = names.some(({ kind }) => kind === "table");
      return { table, keys: whole ? undefined : of("key"), values: whole ? [] : of("value") };
    });
  }

  /** Answers the server's time, in milliseconds. */
  async nowMs(): Promise<number> {
    return only(await this.#query<{ now: number }>(`SELECT ${NOW_MS}::FLOAT8 AS now`)).now;
  }

  /** The snapshot of the latest look that was noted before a time of the server; `undefined`: there is none. */
  async seenBefore(atMs: number): Promise<string | undefined> {
    const rows = await this.#query<{ seen: string }>(
      `SELECT l.seen::TEXT AS seen FROM lookaside.caches c JOIN lookaside.looks l ON l.cache = c.id
       WHERE c.name = $1::TEXT AND date_part('epoch', l.at) * 1000::FLOAT8 < $2::TEXT::FLOAT8
       ORDER BY l.look DESC LIMIT 1`,
      [this.#cache, String(atMs)],
    );
    return rows[0]?.seen;
  }

  /**
   * Answers the first rows that are not visible in a snapshot, applied or not, whether there may be others, and the
   * current snapshot; `undefined`: the cache is not registered, so its rows are not kept.
   */
  async since(
    seen: string,
    rowsMax: number,
  ): Promise<
    (Pick<Look, "now" | "isPart"> & { readonly rows: readonly ChangedRow[] }) | undefined
  > {
    const open = openRows({
      seen: "$2::TEXT::PG_SNAPSHOT",
      behind: ["'0'::XID8", "0::BIGINT"],
      within: "TRUE",
      limit: "$3::TEXT::INTEGER",
    });
    const [found] = await this.#query<{ readonly now: string; readonly rows: string | null }>(
      `SELECT pg_current_snapshot()::TEXT AS now, (
         SELECT pg_catalog.json_agg(pg_catalog.json_build_object('label', o.label, 'keys', o.keys, 'values', o.column_values))::TEXT
         FROM (${untilFull(open)}) o
       ) AS rows FROM lookaside.caches c WHERE c.name = $1::TEXT AND ${IS_HERE}`,
      [this.#cache, seen, rowsMax],
    );
    if (found === undefined) return undefined;
    const rows = JSON.parse(found.rows ?? "[]") as ChangedRow[];
    return { now: found.now, rows, isPart: isFull(rows, rowsMax) };
  }

  /** The number of open rows, at most 10,000, the age of the oldest, and the size of the outbox. */
  async backlog(): Promise<
    { readonly count: number; readonly lagMs: number; readonly bytes: number }
  > {
    const rows = await this.#query<{ count: number; lagMs: number; bytes: number }>(
      `SELECT pg_catalog.count(o.id)::INTEGER AS count, (
           SELECT sum(pg_total_relation_size(i.inhrelid::REGCLASS)) FROM pg_inherits i
           WHERE i.inhparent = 'lookaside.outbox'::REGCLASS::OID
         )::FLOAT8 AS bytes,
         coalesce(date_part('epoch', clock_timestamp() - min(o.created_at)) * 1000::FLOAT8, 0) AS "lagMs"
       FROM lookaside.caches c ${LAST_LOOK} CROSS JOIN LATERAL (${OPEN_ROWS}) o WHERE c.name = $1::TEXT`,
      [this.#cache, BACKLOG_MAX],
    );
    return only(rows);
  }

  /** Reports a process that invalidates its own writes to the cache. */
  async noteWriter(writer: string): Promise<void> {
    await this.#query(
      `INSERT INTO lookaside.writers (cache, writer) SELECT id, $2::TEXT FROM lookaside.caches
       WHERE name = $1::TEXT ON CONFLICT (cache, writer) DO UPDATE SET at = clock_timestamp()`,
      [this.#cache, writer],
    );
  }

  /** Reports ended writes, with the names that their writer has invalidated. */
  async noteSettled(settled: readonly Settled[]): Promise<void> {
    await this.#query(
      `INSERT INTO lookaside.done (cache, mark, names)
       SELECT c.id, s->>'mark'::TEXT, s->>'names'::TEXT FROM lookaside.caches c, json_array_elements($2::TEXT::JSON) s
       WHERE c.name = $1::TEXT AND set_config('synchronous_commit', 'off', TRUE) = 'off'
       ON CONFLICT DO NOTHING`,
      [this.#cache, JSON.stringify(settled)],
    );
  }

  /** Takes one step of cleaning. Answers true if another step should follow at once. */
  async clean(): Promise<boolean> {
    const rows = await this.#query<{ more: boolean }>("SELECT lookaside.clean() AS more");
    return rows[0]?.more ?? false;
  }

  /** True if transactions can be prepared here: then writers do not notify by themselves. */
  async writersAreSilent(): Promise<boolean> {
    const rows = await this.#query<{ silent: boolean }>(
      `SELECT CASE current_setting('lookaside.notify', TRUE) WHEN 'on' THEN FALSE WHEN 'off' THEN TRUE
         ELSE current_setting('max_prepared_transactions') <> '0' END AS silent`,
    );
    return only(rows).silent;
  }
}

function isFull(rows: readonly ChangedRow[], rowsMax: number): boolean {
  return rows.length === rowsMax || namesIn(rows) >= NAMES_MAX;
}

function only<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error("Cannot relay changes: Postgres answered no row");
  return row;
}
