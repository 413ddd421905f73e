/** Limit of listed rows per statement; more count as the whole table. */
const ROWS_MAX = 1_000;

/** Time for which writers notify after a relay has asked for it, or after its promise to poll has ended. */
const RUNG_MS = 30_000;

/** The type of a missing column: no watched column may have it. */
const IS_MISSING = `OPERATOR(pg_catalog.=) ''pg_catalog.txid_snapshot''::pg_catalog.regtype`;

/**
 * Generates the trigger functions of a table: static SQL over its columns, so that wide rows cost as much as
 * narrow ones.
 *
 * They run as the owner of the schema on rows of the writer. So values become text by `format('%s')`, which
 * calls the output function of their type and no cast; they are compared as they are stored, not with their
 * type's operators; and every name is qualified.
 *
 * A write must not fail because a column was renamed meanwhile. So columns are named without their table, and
 * the additional relation `missing` has all of them:
 *
 * ```sql
 * SELECT ARRAY(SELECT id FROM new_rows) FROM (SELECT NULL::txid_snapshot AS id) AS missing
 * ```
 *
 * If new_rows no longer has `id`, the name means that of `missing`, and the change counts for the whole table.
 */
export const triggersSql: readonly string[] = [
  // A text as part of a name; changes/names.ts has the same rule.
  `CREATE OR REPLACE FUNCTION lookaside.hashed_sql(text_sql TEXT) RETURNS TEXT
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('''#'' OPERATOR(pg_catalog.||) pg_catalog.left(pg_catalog.encode(pg_catalog.sha256('
    'pg_catalog.convert_to(%s, %L)), ''hex''), 40)', text_sql, getdatabaseencoding())
$$`,
  `CREATE OR REPLACE FUNCTION lookaside.plain_sql(text_sql TEXT) RETURNS TEXT
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('CASE WHEN pg_catalog.octet_length(%1$s) OPERATOR(pg_catalog.<=) 64 '
    'AND (%1$s) COLLATE pg_catalog."C" OPERATOR(pg_catalog.~) ''^[A-Za-z0-9_.@+-]{1,64}$'' '
    'THEN %1$s ELSE %2$s END', text_sql, lookaside.hashed_sql(text_sql))
$$`,
  `CREATE OR REPLACE FUNCTION lookaside.plain(value TEXT) RETURNS TEXT
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name TEXT;
BEGIN
  EXECUTE 'SELECT ' || lookaside.plain_sql('$1') INTO name USING value;
  RETURN name;
END $$`,
  // A dot separates schema and table, so neither may contain one.
  `CREATE OR REPLACE FUNCTION lookaside.label_part(part TEXT) RETURNS TEXT
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name TEXT;
BEGIN
  IF strpos(part, '.') = 0 THEN RETURN lookaside.plain(part); END IF;
  EXECUTE 'SELECT ' || lookaside.hashed_sql('$1') INTO name USING part;
  RETURN name;
END $$`,
  `CREATE OR REPLACE FUNCTION lookaside.label(table_schema TEXT, table_name TEXT) RETURNS TEXT
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN table_schema = 'public' THEN '' ELSE lookaside.label_part(table_schema) || '.' END
    || lookaside.label_part(table_name)
$$`,
  // True if a column is generated when it is read (Postgres 18). The rows that a trigger gets have no value for
  // it, and reading one from them fails.
  `CREATE OR REPLACE FUNCTION lookaside.is_virtual(relation OID, name TEXT) RETURNS BOOLEAN
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT 1 FROM pg_attribute a
    WHERE a.attrelid = relation AND a.attname = name AND a.attgenerated = 'v' AND NOT a.attisdropped)
$$`,
  // An expression for a column in a name: its key if there is no prefix, otherwise "prefix=value". NULL if it
  // has no value, one that is too long to hash, or one that is generated when it is read.
  `CREATE OR REPLACE FUNCTION lookaside.column_sql(relation OID, name TEXT, prefix TEXT) RETURNS TEXT
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  type CONSTANT OID := (SELECT atttypid FROM pg_attribute WHERE attrelid = relation AND attname = name);
  base OID := type;
  -- By bytes: collations of two columns may contradict each other, and one may take different texts for equal.
  value TEXT := format('(pg_catalog.format(''%%s'', %I) COLLATE pg_catalog."C")', name);
  size_sql TEXT := '';
BEGIN
  IF lookaside.is_virtual(relation, name) THEN RETURN 'NULL::pg_catalog.text'; END IF;
  WHILE (SELECT typtype = 'd' FROM pg_type WHERE oid = base) LOOP
    SELECT typbasetype INTO base FROM pg_type WHERE oid = base;
  END LOOP;
  -- Integers and UUIDs are always short and plain.
  IF base NOT IN ('int2'::REGTYPE, 'int4'::REGTYPE, 'int8'::REGTYPE, 'uuid'::REGTYPE) THEN
    IF base = 'bool'::REGTYPE THEN
      value := format('CASE %s WHEN ''t'' THEN ''true'' WHEN ''f'' THEN ''false'' END', value);
    ELSIF base = 'bpchar'::REGTYPE THEN
      value := format('pg_catalog.rtrim(%s, '' '')', value);
    END IF;
    value := lookaside.plain_sql(value);
    size_sql := format('WHEN pg_catalog.pg_column_size(%I) OPERATOR(pg_catalog.>) 1000000 THEN NULL ', name);
  END IF;
  IF prefix IS NOT NULL THEN
    value := format('%L OPERATOR(pg_catalog.||) %s', prefix || '=', value);
  END IF;
  -- Of another type by now, whose text may differ: it has none until the next check.
  RETURN format('CASE WHEN pg_catalog.pg_typeof(%1$I) OPERATOR(pg_catalog.=) %2$L::pg_catalog.regtype '
    'THEN CASE %3$sWHEN %1$I IS NULL THEN %4$L ELSE %5$s END END', name, type, size_sql, prefix, value);
END $$`,
  // The rows of a transition table: their key, the values of their columns, and everything else that matters.
  `CREATE OR REPLACE FUNCTION lookaside.rows_sql(
  rows TEXT, relation OID, key TEXT[], columns TEXT[], matter TEXT[], also TEXT
) RETURNS TEXT LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('(SELECT %s%s AS k, ARRAY[%s]::pg_catalog.text[] AS v%s FROM %s)', also, (
    SELECT string_agg(lookaside.column_sql(relation, name, NULL),
      ' OPERATOR(pg_catalog.||) '','' OPERATOR(pg_catalog.||) ' ORDER BY n)
    FROM unnest(key) WITH ORDINALITY x (name, n)
  ), (
    SELECT string_agg(lookaside.column_sql(relation, name, lookaside.plain(name)), ', ' ORDER BY n)
    FROM unnest(columns) WITH ORDINALITY x (name, n)
  ), (
    SELECT string_agg(format(', %I AS m%s', name, n), '' ORDER BY n)
    FROM unnest(matter) WITH ORDINALITY x (name, n)
  ), rows)
$$`,
  // The rows that an UPDATE changed in what matters: pairs the n-th old row with the n-th new one, which
  // Postgres records in the same order. If it did not, more rows would count as changed, not fewer.
  `CREATE OR REPLACE FUNCTION lookaside.changed_sql(
  relation OID, key TEXT[], columns TEXT[], matter TEXT[]
) RETURNS TEXT LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('(SELECT n.k AS nk, n.v AS nv, o.k AS ok, o.v AS ov FROM %s AS n FULL JOIN %s AS o '
    'ON n.place OPERATOR(pg_catalog.=) o.place WHERE (n.k OPERATOR(pg_catalog.=) o.k '
    'AND n.v OPERATOR(pg_catalog.=) o.v AND pg_catalog.array_position(n.v, NULL) IS NULL%s) IS NOT TRUE)',
    lookaside.rows_sql('new_rows', relation, key, columns, matter, place),
    lookaside.rows_sql('old_rows', relation, key, columns, matter, place), (
      SELECT string_agg(format(' AND pg_catalog.record_image_eq(ROW(n.m%1$s), ROW(o.m%1$s)) '
        'AND NOT (pg_catalog.pg_typeof(n.m%1$s) ${IS_MISSING})', n), '' ORDER BY n)
      FROM generate_series(1, cardinality(matter)) n
    )) FROM (VALUES ('pg_catalog.row_number() OVER () AS place, ')) x (place)
$$`,
  // The source of an INSERT into the outbox: lists of the keys and values of the rows.
  `CREATE OR REPLACE FUNCTION lookaside.lists_sql(
  event TEXT, relation OID, key TEXT[], columns TEXT[], matter TEXT[]
) RETURNS TEXT LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  none CONSTANT TEXT := 'NULL::pg_catalog.text[]';
  from_new CONSTANT TEXT := lookaside.rows_sql('new_rows', relation, key, columns, NULL, '') || ' AS r LIMIT ${
    ROWS_MAX + 1
  }';
  from_old CONSTANT TEXT := lookaside.rows_sql('old_rows', relation, key, columns, NULL, '') || ' AS r LIMIT ${
    ROWS_MAX + 1
  }';
  from_first CONSTANT TEXT := CASE event WHEN 'delete' THEN from_old ELSE from_new END;
  values_sql TEXT := none;
BEGIN
  IF event = 'update' AND matter IS NOT NULL THEN
    RETURN format('(WITH c AS MATERIALIZED (SELECT * FROM %s AS changed LIMIT ${
    ROWS_MAX + 1
  }) SELECT '
      'CASE WHEN (SELECT pg_catalog.count(*) FROM c) OPERATOR(pg_catalog.<=) ${ROWS_MAX} '
      'THEN ARRAY(SELECT c.nk FROM c UNION SELECT c.ok FROM c) ELSE ARRAY[NULL::pg_catalog.text] END AS k, '
      '%s AS ok, ARRAY(SELECT pg_catalog.unnest(c.nv) FROM c UNION SELECT pg_catalog.unnest(c.ov) FROM c) AS v)',
      lookaside.changed_sql(relation, key, columns, matter), none);
  END IF;
  IF columns <> '{}' THEN
    values_sql := format('SELECT pg_catalog.unnest(f.v) FROM (SELECT r.v FROM %s) AS f', from_first);
    IF event = 'update' THEN
      values_sql := format('%s UNION SELECT pg_catalog.unnest(f.v) FROM (SELECT r.v FROM %s) AS f', values_sql, from_old);
    ELSE
      values_sql := replace(values_sql, 'SELECT pg_catalog.unnest', 'SELECT DISTINCT pg_catalog.unnest');
    END IF;
    values_sql := format('ARRAY(%s)', values_sql);
  END IF;
  RETURN format('(SELECT ARRAY(SELECT r.k FROM %s) AS k, %s AS ok, %s AS v OFFSET 0)', from_first,
    CASE event WHEN 'update' THEN format('ARRAY(SELECT r.k FROM %s)', from_old) ELSE none END, values_sql);
END $$`,
  // False if the statement that fired the trigger, whose context is known, is surely no MERGE. By its text, if it
  // was not called by another one, otherwise by the line of the context that has it: a function in SQL has none.
  `CREATE OR REPLACE FUNCTION lookaside.may_merge_sql() RETURNS TEXT
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '(CASE pg_catalog.split_part(context, pg_catalog.chr(10), 2) WHEN '''' '
    'THEN pg_catalog.current_query() OPERATOR(pg_catalog.!~*) ''[[:<:]](merge|execute)[[:>:]]'' '
    'ELSE pg_catalog.split_part(context, pg_catalog.chr(10), 2) OPERATOR(pg_catalog.~~) ''SQL statement "%'' '
    'AND context OPERATOR(pg_catalog.!~*) ''[[:<:]]merge[[:>:]]'' END) IS NOT TRUE'
$$`,
  // The outbox row of a statement, if it touched any row.
  `CREATE OR REPLACE FUNCTION lookaside.outbox_row_sql(
  event TEXT, relation OID, label TEXT, key TEXT[], columns TEXT[], matter TEXT[]
) RETURNS TEXT LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- The writer says what it is: nothing but what may be a mark. Where the encoding is SQL_ASCII, a relay could not read
  -- other bytes, nor then any change.
  writer CONSTANT TEXT := 'pg_catalog.substring(pg_catalog.current_setting(''lookaside.writer'', TRUE) '
    'COLLATE pg_catalog."C", ''^[A-Za-z0-9.-]{1,64}$'')';
BEGIN
  IF event IN ('truncate', 'move') THEN
    RETURN format('SELECT %L, NULL::pg_catalog.text[], NULL::pg_catalog.text[], %s%s', label, writer,
      CASE event WHEN 'move' THEN ' WHERE ' || lookaside.may_merge_sql() ELSE '' END);
  END IF;
  RETURN format('SELECT %L, CASE WHEN found.known THEN CASE WHEN lists.ok IS NULL OR lists.k OPERATOR(pg_catalog.=) lists.ok '
    'THEN lists.k ELSE lists.k OPERATOR(pg_catalog.||) lists.ok END END, CASE WHEN found.known THEN lists.v END, %s '
    'FROM (SELECT %s) AS missing CROSS JOIN LATERAL %s AS lists CROSS JOIN LATERAL (SELECT '
    'pg_catalog.cardinality(lists.k) OPERATOR(pg_catalog.<=) %s AND pg_catalog.array_position(lists.k, NULL) IS NULL '
    'AND pg_catalog.array_position(lists.v, NULL) IS NULL AND (lists.ok IS NULL '
    'OR pg_catalog.cardinality(lists.ok) OPERATOR(pg_catalog.<=) ${ROWS_MAX} AND pg_catalog.array_position(lists.ok, NULL) IS NULL'
    ') AS known) AS found WHERE pg_catalog.cardinality(lists.k) OPERATOR(pg_catalog.>) 0 '
    'OR pg_catalog.cardinality(lists.ok) OPERATOR(pg_catalog.>) 0',
    label, writer, (
      SELECT string_agg(DISTINCT format('NULL::pg_catalog.txid_snapshot AS %I', name), ', ')
      FROM unnest(key || columns || coalesce(matter, '{}')) name
    ), lookaside.lists_sql(event, relation, key, columns, matter),
    CASE WHEN event = 'update' AND matter IS NOT NULL THEN ${2 * ROWS_MAX} ELSE ${ROWS_MAX} END);
END $$`,
  // The body of a trigger function. It does not notify while a relay has promised to poll, nor if no relay has
  // asked for notifications lately: NOTIFY holds a lock of the whole server until the commit is on disk. It also
  // prevents preparing a transaction, so where that is possible, it notifies only when asked.
  "DROP FUNCTION IF EXISTS lookaside.body_sql(TEXT)",
  `CREATE OR REPLACE FUNCTION lookaside.body_sql(event TEXT, row_sql TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format($body$
#variable_conflict use_column
%sINSERT INTO lookaside.outbox (label, keys, column_values, writer) %s;
  -- In two steps: the first one is all that a writer pays whom a relay looks after.
  IF FOUND AND pg_catalog.floor(((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000)
      OPERATOR(pg_catalog.-) pg_catalog.pg_sequence_last_value('lookaside.doorbell'::pg_catalog.regclass))
      OPERATOR(pg_catalog./) ${RUNG_MS}) OPERATOR(pg_catalog.=) 0 THEN
    IF (CASE pg_catalog.current_setting('lookaside.notify', TRUE) WHEN 'on' THEN TRUE WHEN 'off' THEN FALSE
        ELSE pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' END)
        AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5 THEN
      PERFORM pg_catalog.pg_notify('lookaside_changes', '');
    END IF;
  END IF;
  RETURN NULL;
END $body$, CASE event WHEN 'move' THEN E'DECLARE\n  context TEXT;\nBEGIN\n  GET DIAGNOSTICS context = PG_CONTEXT;\n  '
    ELSE E'BEGIN\n  ' END, row_sql)
$$`,
];
