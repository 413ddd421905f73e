/** Time for which a process counts as such a writer after its last report. */
const WRITER_MS = 30_000;

/**
 * The rows that are not visible in `seen`, in the order of their transactions, after the position `behind`.
 *
 * Each condition is one that an index scan can begin with. Of two lower bounds, it would begin with the one that it is
 * told last, and go through all rows that are kept.
 */
export function openRows(
  { seen, behind: [xid, id], within, limit }: {
    readonly seen: string;
    readonly behind: readonly [xid: string, id: string];
    readonly within: string;
    readonly limit: string;
  },
): string {
  const rows = (condition: string) =>
    `SELECT o.* FROM lookaside.outbox o WHERE ${condition} AND ${within} ORDER BY o.xid, o.id LIMIT ${limit}`;
  const end = `pg_snapshot_xmax(${seen})`;
  const after = (from: string) => `CASE WHEN ${xid} < ${from} THEN 0::BIGINT ELSE ${id} END`;
  return `SELECT * FROM (
    (${rows(`(o.xid, o.id) > (greatest(${end}, ${xid}), ${after(end)})`)}) UNION ALL
    (SELECT o.* FROM pg_snapshot_xip(${seen}) x
     CROSS JOIN LATERAL (${rows(`o.xid = x AND o.id > ${after("x")}`)}) o WHERE x >= ${xid})
  ) o ORDER BY o.xid, o.id LIMIT ${limit}`;
}

/** Limit of keys and values of the rows of one look, besides those of its last row. */
export const NAMES_MAX = 20_000;

/** The first of some rows, in the order of their transactions, until they have {@linkcode NAMES_MAX} keys and values. */
export function untilFull(rows: string): string {
  const names = (list: string) => `coalesce(pg_catalog.cardinality(r.${list}), 0)`;
  return `SELECT * FROM (
    SELECT r.*, sum(${names("keys")} + ${names("column_values")}) OVER (
      ORDER BY r.xid, r.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS names_before FROM (${rows}) r
  ) o WHERE coalesce(o.names_before, 0::BIGINT) < ${NAMES_MAX}::BIGINT`;
}

/**
 * The server, its timeline and the database: another one may lack changes that this one has shown, also a dump that
 * was restored on the same server, and took its name.
 */
export const ORIGIN: string = `(SELECT system_identifier FROM pg_control_system())::TEXT
  || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
  || '.' || (SELECT oid FROM pg_database WHERE datname = current_database())::TEXT`;

/**
 * True if cache `c` is registered for this server. A pooler, or an address that moves, may lead to another one without
 * any error.
 */
export const IS_HERE: string = `c.origin = ${ORIGIN}`;

/** The last look of cache `c`. */
export const LAST_LOOK: string = `CROSS JOIN LATERAL (
  SELECT * FROM lookaside.looks l WHERE l.cache = c.id ORDER BY l.look DESC LIMIT 1
) l`;

/**
 * True unless the last look `l` has seen transactions that are yet to come, since it was restored with the dump of
 * another server: every row would count as applied until there are as many here.
 */
export const IS_OF_THE_PAST: string =
  "pg_snapshot_xmax(l.seen) <= pg_snapshot_xmax(pg_current_snapshot())";

/** The open rows of cache `c` after its last look `l`. */
export const OPEN_ROWS: string = openRows({
  seen: "l.seen",
  behind: ["l.pass_xid", "l.pass_id"],
  within: "(l.pass IS NULL OR pg_visible_in_snapshot(o.xid, l.pass))",
  limit: "$2::TEXT::INTEGER",
});

/** The names that the writer of row `o` has invalidated, as JSON. */
export const SETTLED: string = `CASE WHEN o.writer IS NOT NULL THEN (
  SELECT d.names::JSON FROM lookaside.done d WHERE d.cache = c.id AND d.mark = o.writer
) END`;

/** True if the writer of row `o` belongs to this cache. */
export const IS_KNOWN: string = `o.writer IS NOT NULL AND EXISTS (
  SELECT 1 FROM lookaside.writers w WHERE w.cache = c.id AND w.writer = split_part(o.writer, '.', 1)
    AND w.at > clock_timestamp() - INTERVAL '${WRITER_MS} ms'
)`;
