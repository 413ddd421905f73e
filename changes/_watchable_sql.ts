/** Tells of a table which parts and which shape it has, and whether and by which columns it can be watched. */
export const watchableSql: readonly string[] = [
  // A table with all its partitions or inheriting tables, except temporary ones, whose rows only their session sees. Most
  // have none: if it promised the usual thousand rows, Postgres would read whole catalogs for each table. Like all
  // that check() calls and that reads catalogs, it is in PL/pgSQL: a function in SQL is planned anew for each table.
  `CREATE OR REPLACE FUNCTION lookaside.family(root OID) RETURNS SETOF OID
LANGUAGE plpgsql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = root) THEN RETURN QUERY SELECT root; RETURN; END IF;
  RETURN QUERY WITH RECURSIVE family (relation) AS (
    SELECT root UNION SELECT c.oid FROM pg_inherits i JOIN family f ON i.inhparent = f.relation
    JOIN pg_class c ON c.oid = i.inhrelid AND c.relpersistence <> 't'
  ) SELECT relation FROM family;
END $$`,
  // A digest of the tables, their columns in the version that the last ALTER left (xmin), the expressions of generated
  // columns, the links of its parts (one that is being detached has no rows any more), and the names and attributes of
  // the types that they are made of: if it differs, rows may have changed unnoticed. It stays the same after a TRUNCATE,
  // which is noticed. It must not wait for a table that is being rewritten, as pg_get_expr() would.
  `CREATE OR REPLACE FUNCTION lookaside.shape(root OID) RETURNS TEXT
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN (WITH RECURSIVE parts (relation) AS (SELECT lookaside.family(root)), types (oid, made_of) AS (
    SELECT NULL::OID, relation FROM parts
    UNION SELECT t.oid, t.typrelid FROM types u
    CROSS JOIN LATERAL (VALUES ('pg_class'::REGCLASS, u.made_of), ('pg_type'::REGCLASS, u.oid)) x (class, of)
    JOIN pg_depend d ON d.classid = x.class AND d.objid = x.of
    JOIN pg_type t ON d.refclassid = 'pg_type'::REGCLASS AND t.oid = d.refobjid
  )
  SELECT md5(concat((
    SELECT string_agg(format('%s %s %s:%s', a.attrelid, a.attnum, a.xmin,
      CASE WHEN a.attgenerated <> '' THEN d.adbin END), ',' ORDER BY a.attrelid, a.attnum)
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid IN (SELECT relation FROM parts UNION SELECT made_of FROM types)
      AND a.attnum > 0 AND NOT a.attisdropped
  ), (
    SELECT string_agg(i.xmin::TEXT, ',' ORDER BY i.inhrelid, i.inhseqno) FROM pg_inherits i WHERE i.inhrelid IN (SELECT relation FROM parts)
  ), (
    SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumtypid, e.enumsortorder)
    FROM pg_enum e WHERE e.enumtypid IN (SELECT oid FROM types)
  ))));
END $$`,
  // The reason why a table cannot be watched; NULL if it can.
  `CREATE OR REPLACE FUNCTION lookaside.refusal(watched REGCLASS) RETURNS TEXT
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  about RECORD;
  parent REGCLASS := (SELECT inhparent FROM pg_inherits WHERE inhrelid = watched LIMIT 1);
  shared TEXT;
  hypertable BOOLEAN;
BEGIN
  SELECT c.relkind, c.relpersistence, n.nspname, c.relname, pg_has_role(c.relowner, 'USAGE') AS ours INTO about
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = watched;
  IF about.relkind NOT IN ('r', 'p') THEN RETURN 'it is no table'; END IF;
  IF about.nspname IN ('lookaside', 'pg_catalog', 'information_schema') THEN RETURN 'it belongs to the system'; END IF;
  IF parent IS NOT NULL THEN RETURN format('it is a part of %s; watch that', parent); END IF;
  IF about.relpersistence = 't' THEN RETURN 'it is temporary: its rows go unseen'; END IF;
  FOR about IN SELECT c.relkind, c.relpersistence, c.oid::REGCLASS AS name, pg_has_role(c.relowner, 'USAGE') AS ours
    FROM lookaside.family(watched) f (relation) JOIN pg_class c ON c.oid = f.relation
  LOOP
    IF about.relkind = 'f' THEN RETURN format('%s is a foreign table: what others write there goes unseen', about.name); END IF;
    IF about.relpersistence <> 'p' THEN RETURN format('%s is unlogged: a crash empties it unseen', about.name); END IF;
    IF NOT about.ours THEN
      RETURN format('%s belongs to another role than %s', about.name, current_user);
    END IF;
  END LOOP;
  -- Its triggers can record the changes of one table only.
  WITH RECURSIVE own (relation) AS (SELECT lookaside.family(watched)), others (part, parent) AS (
    SELECT i.inhrelid, i.inhparent FROM pg_inherits i
    WHERE i.inhrelid IN (SELECT relation FROM own) AND i.inhparent NOT IN (SELECT relation FROM own)
    UNION SELECT o.part, i.inhparent FROM others o JOIN pg_inherits i ON i.inhrelid = o.parent
  ) SELECT format('%s is also a part of %s, which is watched', o.part::REGCLASS, w.relation::REGCLASS) INTO shared
    FROM others o JOIN lookaside.watched w ON w.relation = o.parent LIMIT 1;
  IF shared IS NOT NULL THEN RETURN shared; END IF;
  -- Only that of the extension: a role that may create schemas could have its own code run as the owner of this one.
  IF EXISTS (SELECT 1 FROM pg_extension e JOIN pg_depend d ON d.refobjid = e.oid JOIN pg_class c ON c.oid = d.objid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE e.extname = 'timescaledb'
    AND d.refclassid = 'pg_extension'::REGCLASS AND d.deptype = 'e' AND d.classid = 'pg_class'::REGCLASS
    AND (n.nspname, c.relname) = ('_timescaledb_catalog', 'hypertable'))
  THEN
    EXECUTE 'SELECT EXISTS (SELECT 1 FROM _timescaledb_catalog.hypertable h JOIN pg_namespace n ON n.nspname = h.schema_name
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = h.table_name WHERE c.oid = $1)' INTO hypertable USING watched::OID;
    IF hypertable AND (SELECT string_to_array(split_part(extversion, '-', 1), '.')::INTEGER[] < '{2,18}'
      FROM pg_extension WHERE extname = 'timescaledb') THEN
      RETURN 'it is a hypertable, which has no transition tables before TimescaleDB 2.18';
    END IF;
  END IF;
  RETURN NULL;
END $$`,
  // The requested key of a table, or its primary key.
  `CREATE OR REPLACE FUNCTION lookaside.key_of(watched REGCLASS, key TEXT[]) RETURNS TEXT[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  unique_key TEXT[];
BEGIN
  SELECT names.list INTO unique_key FROM pg_index i CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::TEXT ORDER BY x.n) AS list, bool_and(a.attnotnull) AS filled
    FROM unnest(i.indkey::SMALLINT[]) WITH ORDINALITY x (attnum, n)
    LEFT JOIN pg_attribute a ON a.attrelid = watched AND a.attnum = x.attnum WHERE x.n <= i.indnkeyatts
  ) names
  WHERE i.indrelid = watched AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND names.filled
    AND CASE WHEN key IS NULL THEN i.indisprimary ELSE names.list @> key AND names.list <@ key END
  LIMIT 1;
  IF unique_key IS NULL AND key IS NULL THEN
    RAISE EXCEPTION 'Cannot watch %: it has no primary key', watched
      USING HINT = 'Name the columns of another unique key, none of which may be null: key => ''{…}''.';
  ELSIF unique_key IS NULL THEN
    RAISE EXCEPTION 'Cannot watch %: no unique index has just the columns %, all of them NOT NULL', watched, key;
  END IF;
  RETURN coalesce(key, unique_key);
END $$`,
  `CREATE OR REPLACE FUNCTION lookaside.check_columns(watched REGCLASS, names TEXT[], use TEXT) RETURNS VOID
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name TEXT;
  about RECORD;
BEGIN
  FOREACH name IN ARRAY names LOOP
    SELECT t.typcategory, t.typlen, t.oid INTO about FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
      WHERE a.attrelid = watched AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'Cannot watch %: it has no column %', watched, name USING ERRCODE = 'undefined_column';
    END IF;
    IF use <> 'matter' AND lookaside.is_virtual(watched, name) THEN
      RAISE EXCEPTION 'Cannot watch %: column % is virtual: made when it is read, and seen by no trigger', watched, name
        USING HINT = 'Take the columns that it is made of, or make it STORED.';
    END IF;
    -- Values that are long by kind, or whose text tells more than they do.
    IF about.oid = 'txid_snapshot'::REGTYPE OR (CASE use WHEN 'columns' THEN
        about.typcategory NOT IN ('N', 'S', 'B', 'D', 'E', 'I', 'T', 'V') AND NOT (about.typcategory = 'U' AND about.typlen > 0)
      WHEN 'key' THEN about.typcategory IN ('C', 'P', 'X', 'Z') ELSE FALSE END) THEN
      RAISE EXCEPTION 'Cannot watch %: column % has type %, which makes no name', watched, name, about.oid::REGTYPE;
    END IF;
  END LOOP;
END $$`,
  // The names, with each virtual column, whose value no trigger sees, replaced by the columns that it is made of.
  `CREATE OR REPLACE FUNCTION lookaside.stored(root OID, names TEXT[]) RETURNS TEXT[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN CASE WHEN names IS NOT NULL THEN ARRAY(
    SELECT name FROM unnest(names) name WHERE NOT lookaside.is_virtual(root, name)
    UNION
    SELECT source.attname::TEXT FROM lookaside.family(root) f (relation)
    JOIN pg_attribute made ON made.attrelid = f.relation AND made.attgenerated = 'v' AND made.attname = ANY (names)
    JOIN pg_attrdef d ON d.adrelid = made.attrelid AND d.adnum = made.attnum
    JOIN pg_depend p ON p.classid = 'pg_attrdef'::REGCLASS AND p.objid = d.oid
      AND p.refclassid = 'pg_class'::REGCLASS AND p.refobjid = made.attrelid
    JOIN pg_attribute source ON source.attrelid = made.attrelid AND source.attnum = p.refobjsubid
    WHERE source.attnum > 0 AND source.attnum <> made.attnum
    ORDER BY 1
  ) END;
END $$`,
];
