/** Seconds for which one table of the outbox is written to before the next. A row stays for at least as long. */
const TURN_SECONDS = 450;
const TURN = `(date_part('epoch', clock_timestamp())::BIGINT / ${TURN_SECONDS} % 3)::SMALLINT`;

/**
 * The tables: what writers record, and the progress of each cache.
 *
 * The outbox consists of three tables that are written to in turn. A finished one is emptied by TRUNCATE, which
 * leaves no dead rows for an old snapshot to keep. Nothing in `outbox` or `looks` is ever updated: while an old
 * transaction is open, every version of a row would stay, and every look would read all of them.
 */
export const tablesSql: readonly string[] = [
  `CREATE TABLE IF NOT EXISTS lookaside.installed (
  only_one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (only_one),
  version INTEGER NOT NULL
)`,
  // Each writer reserves several ids at once; otherwise writers would queue for the page of the sequence.
  `CREATE SEQUENCE IF NOT EXISTS lookaside.outbox_id CACHE 16`,
  // The time, in milliseconds, until which a relay has promised to poll, so that writers do not notify. After it
  // they notify for a while, but not for ever, because the relay may be gone. It is a sequence because those are
  // read and written regardless of snapshots.
  `CREATE SEQUENCE IF NOT EXISTS lookaside.doorbell MINVALUE 0 START 0`,
  `CREATE TABLE IF NOT EXISTS lookaside.outbox (
  -- The writer's transaction. Snapshots tell whether rows of it may still appear.
  xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
  id BIGINT NOT NULL DEFAULT nextval('lookaside.outbox_id'),
  turn SMALLINT NOT NULL
    DEFAULT ${TURN},
  label TEXT NOT NULL,
  -- Keys of the changed rows; NULL: the whole table, or too many keys to list.
  keys TEXT[],
  -- Values of the watched columns, before and after the change.
  column_values TEXT[],
  -- The mark of a writer that invalidates by itself.
  writer TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (xid, id, turn)
) PARTITION BY LIST (turn)`,
  ...[0, 1, 2].map((turn) =>
    `CREATE TABLE IF NOT EXISTS lookaside.outbox_${turn} PARTITION OF lookaside.outbox FOR VALUES IN (${turn})`
  ),
  // Earlier versions were installed along the path of whoever did it: a default with a function or operator that
  // is not Postgres's own.
  `DO $$
BEGIN
  IF EXISTS (
    SELECT 1 FROM pg_attrdef a JOIN pg_depend d ON d.classid = 'pg_attrdef'::REGCLASS AND d.objid = a.oid
    WHERE a.adrelid = 'lookaside.outbox'::REGCLASS AND d.refclassid IN ('pg_proc'::REGCLASS, 'pg_operator'::REGCLASS)
  ) THEN
    ALTER TABLE lookaside.outbox ALTER id SET DEFAULT nextval('lookaside.outbox_id'), ALTER turn SET DEFAULT ${TURN};
  END IF;
END $$`,
  // The caches that need the rows. A cache that has not reported for long is removed.
  `CREATE TABLE IF NOT EXISTS lookaside.caches (
  -- Differs when the same name is registered again.
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  -- The server, its timeline and the database: another one may lack changes that this cache has seen.
  origin TEXT NOT NULL,
  -- Time for which applied rows are kept for a replay.
  keep INTERVAL NOT NULL,
  -- NULL: entries of the cache may be older than its registration.
  reset_at TIMESTAMPTZ
)`,
  // The changes that each cache has applied: those visible in "seen" of its last look. A look that finds more
  // than it takes begins a pass: of the rows visible in "pass", it has taken all up to (pass_xid, pass_id).
  `CREATE TABLE IF NOT EXISTS lookaside.looks (
  cache BIGINT NOT NULL,
  look BIGINT NOT NULL,
  seen PG_SNAPSHOT NOT NULL,
  pass PG_SNAPSHOT,
  pass_xid XID8 NOT NULL DEFAULT '0',
  pass_id BIGINT NOT NULL DEFAULT 0,
  -- The relay that noted the look; NULL: a registration.
  feed TEXT,
  -- True if rows were applied.
  applied BOOLEAN NOT NULL DEFAULT FALSE,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (cache, look)
)`,
  // The processes that invalidate their own writes, and the marks of their writes that have ended.
  `CREATE TABLE IF NOT EXISTS lookaside.writers (
  cache BIGINT NOT NULL,
  writer TEXT NOT NULL,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (cache, writer)
)`,
  `CREATE TABLE IF NOT EXISTS lookaside.done (
  cache BIGINT NOT NULL,
  mark TEXT NOT NULL,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (cache, mark)
)`,
  // The names that the writer has invalidated: as JSON, since only relays read them.
  "ALTER TABLE lookaside.done ADD COLUMN IF NOT EXISTS names TEXT",
  `CREATE TABLE IF NOT EXISTS lookaside.watched (
  label TEXT PRIMARY KEY,
  table_schema NAME NOT NULL,
  table_name NAME NOT NULL,
  relation OID NOT NULL,
  key TEXT[] NOT NULL,
  columns TEXT[] NOT NULL,
  -- NULL: every UPDATE counts.
  matter TEXT[],
  -- A digest of the tables and their types: if it differs, rows may have changed unnoticed.
  shape TEXT NOT NULL,
  UNIQUE (table_schema, table_name)
)`,
];

/** Empties and forgets in small steps, each in a transaction of its own. */
export const cleaningSql: readonly string[] = [
  // The look before which a cache needs no rows.
  `CREATE OR REPLACE FUNCTION lookaside.kept_since() RETURNS TABLE (cache BIGINT, look BIGINT, seen PG_SNAPSHOT)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.id, l.look, l.seen FROM lookaside.caches c CROSS JOIN LATERAL (
    (SELECT l.look, l.seen, 1 AS choice FROM lookaside.looks l
     WHERE l.cache = c.id AND l.at <= clock_timestamp() - c.keep ORDER BY l.look DESC LIMIT 1)
    UNION ALL
    (SELECT l.look, l.seen, 2 FROM lookaside.looks l WHERE l.cache = c.id ORDER BY l.look LIMIT 1)
    ORDER BY choice LIMIT 1
  ) l
$$`,
  // True if rows of that table of the outbox may still be needed.
  `CREATE OR REPLACE FUNCTION lookaside.is_kept(of_turn INTEGER) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT 1 FROM lookaside.kept_since() k WHERE EXISTS (
      SELECT 1 FROM lookaside.outbox o WHERE o.turn = of_turn AND o.xid >= pg_snapshot_xmax(k.seen)
    ) OR EXISTS (
      SELECT 1 FROM pg_snapshot_xip(k.seen) x JOIN lookaside.outbox o ON o.xid = x
      WHERE o.turn = of_turn
    )
  )
$$`,
  // Takes one step. Answers true if another should follow at once. Cleans the table that is written to next,
  // which was last written to a whole turn ago. If another transaction has locked it, the step does not wait at
  // all, since relays would queue behind; its rows are then deleted one by one.
  `CREATE OR REPLACE FUNCTION lookaside.clean() RETURNS BOOLEAN
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  next_turn INTEGER := (date_part('epoch', clock_timestamp())::BIGINT / ${TURN_SECONDS} + 1) % 3;
  steps_max CONSTANT INTEGER := 5000;
  removed INTEGER;
  worth BOOLEAN := FALSE;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', TRUE);
  -- Rows of transactions that are yet to come were restored from the dump of another server. Each look would find
  -- them, and apply them again.
  DELETE FROM lookaside.outbox o WHERE o.xid >= pg_snapshot_xmax(pg_current_snapshot());
  IF EXISTS (SELECT 1 FROM lookaside.outbox o WHERE o.turn = next_turn) AND NOT lookaside.is_kept(next_turn) THEN
    BEGIN
      EXECUTE format('LOCK TABLE lookaside.outbox_%s IN ACCESS EXCLUSIVE MODE NOWAIT', next_turn);
      -- Again, as whoever held the lock may have committed since. A transaction of a stricter level would not see it.
      IF current_setting('transaction_isolation') <> 'read committed' THEN
        worth := TRUE;
      ELSIF NOT lookaside.is_kept(next_turn) THEN
        EXECUTE format('TRUNCATE lookaside.outbox_%s', next_turn);
      END IF;
    EXCEPTION WHEN lock_not_available THEN
      worth := TRUE;
    END;
  END IF;
  IF worth OR lookaside.is_kept(next_turn) THEN
    DELETE FROM lookaside.outbox o USING (
      SELECT old.xid, old.id FROM lookaside.outbox old
      WHERE old.turn = next_turn AND NOT EXISTS (
        SELECT 1 FROM lookaside.kept_since() k WHERE NOT pg_visible_in_snapshot(old.xid, k.seen)
      ) ORDER BY old.xid, old.id LIMIT steps_max
    ) old WHERE o.turn = next_turn AND o.xid = old.xid AND o.id = old.id;
    GET DIAGNOSTICS removed = ROW_COUNT;
    worth := removed = steps_max;
  END IF;
  DELETE FROM lookaside.looks l USING (
    SELECT old.cache, old.look FROM lookaside.kept_since() k JOIN lookaside.looks old ON old.cache = k.cache
    WHERE old.look < k.look LIMIT steps_max
  ) old WHERE l.cache = old.cache AND l.look = old.look;
  GET DIAGNOSTICS removed = ROW_COUNT;
  worth := worth OR removed = steps_max;
  DELETE FROM lookaside.done d USING (
    SELECT old.cache, old.mark FROM lookaside.done old
    WHERE old.at < clock_timestamp() - INTERVAL '1 minute' LIMIT steps_max
  ) old WHERE d.cache = old.cache AND d.mark = old.mark;
  GET DIAGNOSTICS removed = ROW_COUNT;
  worth := worth OR removed = steps_max;
  DELETE FROM lookaside.writers w WHERE w.at < clock_timestamp() - INTERVAL '1 minute';
  PERFORM lookaside.forget_caches();
  RETURN worth;
END $$`,
  // Forgets caches that have been away for an hour, or for as long as their applied rows are kept.
  `CREATE OR REPLACE FUNCTION lookaside.forget_caches() RETURNS VOID
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM lookaside.caches c WHERE (
      SELECT l.at FROM lookaside.looks l WHERE l.cache = c.id ORDER BY l.look DESC LIMIT 1
    ) < clock_timestamp() - greatest(c.keep, INTERVAL '1 hour') RETURNING c.id
  ) DELETE FROM lookaside.looks l USING gone WHERE l.cache = gone.id
$$`,
];
