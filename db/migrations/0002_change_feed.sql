-- The change feed: what every committed change of a watched table leaves behind, in the writer's own
-- transaction, whoever the writer is. Each cache has a relay that applies the rows to it; see
-- db/changes.ts.

CREATE TABLE lookaside_outbox (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The writer's transaction: what tells rows that may still appear from those that cannot.
  xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
  table_name TEXT NOT NULL,
  -- The ids that changed; NULL: the whole table, or more ids than are worth listing.
  ids TEXT[],
  created_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX lookaside_outbox_xid ON lookaside_outbox (xid);

-- The caches that the rows are for. One that is not seen for long is removed.
CREATE TABLE lookaside_caches (
  name TEXT PRIMARY KEY,
  -- Every row below has been applied, or was committed before the cache was reset.
  watermark XID8 NOT NULL,
  seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  -- Differs when the same name is registered again.
  registration UUID NOT NULL DEFAULT gen_random_uuid(),
  -- NULL: what the cache holds may be older than its registration.
  reset_at TIMESTAMPTZ
);

-- Which cache has applied which row. The row stands first: they are removed together.
CREATE TABLE lookaside_applied (
  cache TEXT NOT NULL,
  outbox_id BIGINT NOT NULL,
  applied_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (outbox_id, cache)
);

CREATE INDEX lookaside_applied_at ON lookaside_applied (cache, applied_at);

-- One row per statement, whatever the statement touched. SECURITY DEFINER, so that whoever may write
-- the watched table need not be granted the outbox.
CREATE FUNCTION lookaside_record() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  ids_max CONSTANT INTEGER := 1000;
  seen INTEGER;
  changed TEXT[];
BEGIN
  IF TG_OP = 'INSERT' THEN
    SELECT count(*), array_agg(DISTINCT row_id) INTO seen, changed
      FROM (SELECT to_jsonb(r) ->> TG_ARGV[1] AS row_id FROM new_rows r LIMIT ids_max + 1) AS rows;
  ELSIF TG_OP = 'DELETE' THEN
    SELECT count(*), array_agg(DISTINCT row_id) INTO seen, changed
      FROM (SELECT to_jsonb(r) ->> TG_ARGV[1] AS row_id FROM old_rows r LIMIT ids_max + 1) AS rows;
  ELSIF TG_OP = 'UPDATE' THEN
    -- Before and after: an update may change the id itself.
    SELECT count(*) / 2, array_agg(DISTINCT row_id) INTO seen, changed
      FROM (
        (SELECT to_jsonb(r) ->> TG_ARGV[1] AS row_id FROM old_rows r LIMIT ids_max + 1)
        UNION ALL
        (SELECT to_jsonb(r) ->> TG_ARGV[1] FROM new_rows r LIMIT ids_max + 1)
      ) AS rows;
  END IF;
  IF seen = 0 THEN
    RETURN NULL; -- the statement touched no row
  END IF;
  IF seen > ids_max THEN
    changed := NULL;
  END IF;
  INSERT INTO lookaside_outbox (table_name, ids) VALUES (TG_ARGV[0], changed);
  -- A wake-up without a payload: Postgres folds those of one transaction into one, and none can
  -- overflow. Whoever misses it polls.
  PERFORM pg_notify('lookaside_changes', '');
  RETURN NULL;
END;
$$;

-- Attaches a table: SELECT lookaside_watch('orders'). `id_column` is what cache keys are made of.
CREATE FUNCTION lookaside_watch(watched REGCLASS, id_column TEXT DEFAULT 'id') RETURNS VOID
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  arguments TEXT := format('%L, %L', watched::TEXT, id_column);
BEGIN
  PERFORM 1 FROM pg_attribute
    WHERE attrelid = watched AND attname = id_column AND NOT attisdropped;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'Cannot watch %: it has no column %', watched, id_column;
  END IF;
  PERFORM lookaside_unwatch(watched);
  EXECUTE format(
    'CREATE TRIGGER lookaside_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows '
    'FOR EACH STATEMENT EXECUTE FUNCTION lookaside_record(%s)', watched, arguments);
  EXECUTE format(
    'CREATE TRIGGER lookaside_update AFTER UPDATE ON %s '
    'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
    'FOR EACH STATEMENT EXECUTE FUNCTION lookaside_record(%s)', watched, arguments);
  EXECUTE format(
    'CREATE TRIGGER lookaside_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows '
    'FOR EACH STATEMENT EXECUTE FUNCTION lookaside_record(%s)', watched, arguments);
  EXECUTE format(
    'CREATE TRIGGER lookaside_truncate AFTER TRUNCATE ON %s '
    'FOR EACH STATEMENT EXECUTE FUNCTION lookaside_record(%s)', watched, arguments);
END;
$$;

-- Detaches a table. Does nothing if it is not attached.
CREATE FUNCTION lookaside_unwatch(watched REGCLASS) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
  operation TEXT;
BEGIN
  FOREACH operation IN ARRAY ARRAY['insert', 'update', 'delete', 'truncate'] LOOP
    EXECUTE format('DROP TRIGGER IF EXISTS lookaside_%s ON %s', operation, watched);
  END LOOP;
END;
$$;

SELECT lookaside_watch('users');
