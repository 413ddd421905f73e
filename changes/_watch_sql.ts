/** Number of attempts to lock a table before watching it fails, 100 to 300 ms apart. */
const TRIES_MAX = 40;

/** Attaches tables, checks them, and detaches them. */
export const watchSql: readonly string[] = [
  // Settings of a session that affect the text of values are fixed in the function.
  `CREATE OR REPLACE FUNCTION lookaside.settings_sql(watched REGCLASS, names TEXT[]) RETURNS TEXT
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE WHEN bool_and(atttypid = ANY ('{int2,int4,int8,numeric,text,varchar,bpchar,uuid,bool,name,oid}'::REGTYPE[]))
    THEN '' ELSE ' SET TimeZone = ''UTC'' SET DateStyle = ''ISO'' SET IntervalStyle = ''postgres'' '
      'SET extra_float_digits = 1 SET bytea_output = ''hex'' SET lc_monetary = ''C'''  END
  FROM pg_attribute WHERE attrelid = watched AND attname = ANY (names)
$$`,
  // Creates or changes a trigger function. Answers true if it was different.
  `CREATE OR REPLACE FUNCTION lookaside.define(name TEXT, body TEXT, settings TEXT) RETURNS BOOLEAN
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM 1 FROM pg_proc WHERE proname = name AND pronamespace = 'lookaside'::REGNAMESPACE AND prosrc = body
    AND cardinality(proconfig) = CASE settings WHEN '' THEN 1 ELSE 7 END;
  IF FOUND THEN RETURN FALSE; END IF;
  EXECUTE format('CREATE OR REPLACE FUNCTION lookaside.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
    'SET search_path = pg_catalog, pg_temp%s AS %L', name, settings, body);
  -- Whoever may run it could hang it on a table of their own.
  EXECUTE format('REVOKE ALL ON FUNCTION lookaside.%I() FROM PUBLIC', name);
  EXECUTE format('ALTER FUNCTION lookaside.%I() OWNER TO %I', name,
    (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'lookaside'));
  RETURN TRUE;
END $$`,
  `CREATE OR REPLACE FUNCTION lookaside.events() RETURNS TEXT[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '{insert,update,delete,truncate,move}'::TEXT[]
$$`,
  // The columns that a statement sets if it may take rows from one partition to another: those by which a table or
  // one of its parts is partitioned. None if a trigger may set these: any statement may, and while a trigger names a
  // column, nobody can drop that or change its type. No rows of the statement are given to the triggers of a MERGE that
  // does so, unless it deletes and inserts as well. So such tables have a further trigger.
  `CREATE OR REPLACE FUNCTION lookaside.partition_columns(root OID) RETURNS TEXT[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  WITH parts (relation) AS (SELECT lookaside.family(root))
  SELECT ARRAY(
    SELECT DISTINCT a.attname::TEXT FROM parts
    JOIN pg_partitioned_table p ON p.partrelid = parts.relation
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::SMALLINT[])
    -- BEFORE UPDATE … FOR EACH ROW
    WHERE NOT EXISTS (SELECT 1 FROM parts JOIN pg_trigger t ON t.tgrelid = parts.relation WHERE t.tgtype & 19 = 19)
    ORDER BY 1
  )
$$`,
  // Creates or replaces the trigger functions of a table. Answers true if one of them was different.
  `CREATE OR REPLACE FUNCTION lookaside.define_all(relation OID, label TEXT, key TEXT[], columns TEXT[], matter TEXT[])
RETURNS BOOLEAN LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  event TEXT;
  changed BOOLEAN := FALSE;
  stored CONSTANT TEXT[] := lookaside.stored(relation, matter);
BEGIN
  FOREACH event IN ARRAY lookaside.events() LOOP
    changed := lookaside.define(lookaside.function_name(label, event),
      lookaside.body_sql(event, lookaside.outbox_row_sql(event, relation, label, key, columns, stored)),
      lookaside.settings_sql(relation, key || columns)) OR changed;
  END LOOP;
  RETURN changed;
END $$`,
  // The tables on which one of our triggers is missing or disabled, or is for other columns.
  `CREATE OR REPLACE FUNCTION lookaside.unattached(root OID, names TEXT[]) RETURNS SETOF OID
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT c.oid FROM lookaside.family(root) f (relation) JOIN pg_class c ON c.oid = f.relation WHERE (
    SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgname LIKE 'lookaside\\_%'
      AND p.pronamespace = 'lookaside'::REGNAMESPACE AND p.proname = ANY (names)
      AND (t.tgname <> 'lookaside_move' OR lookaside.partition_columns(c.oid) = ARRAY(
        SELECT a.attname::TEXT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (t.tgattr::SMALLINT[])
        ORDER BY 1
      ))
  ) <> CASE c.relkind WHEN 'p' THEN 5 ELSE 4 END;
END $$`,
  `CREATE OR REPLACE FUNCTION lookaside.function_name(label TEXT, event TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT substr(label, 1, 40) || '_' || substr(md5(label), 1, 8) || '_' || event
$$`,
  // Attaches the triggers to one table. ENABLE ALWAYS: they also fire where session_replication_role is replica.
  `CREATE OR REPLACE FUNCTION lookaside.attach(relation REGCLASS, label TEXT) RETURNS VOID
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  event TEXT;
  hung OID;
  move CONSTANT TEXT := (
    SELECT 'UPDATE' || coalesce(' OF ' || string_agg(quote_ident(name), ', '), '')
    FROM pg_partitioned_table LEFT JOIN unnest(lookaside.partition_columns(relation)) name ON TRUE
    WHERE partrelid = relation GROUP BY partrelid
  );
BEGIN
  FOREACH event IN ARRAY lookaside.events() LOOP
    CONTINUE WHEN event = 'move' AND move IS NULL;
    SELECT t.tgfoid INTO hung FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = 'lookaside_' || event;
    IF event = 'move' OR hung IS DISTINCT FROM to_regprocedure(format('lookaside.%I()', lookaside.function_name(label, event)))::OID THEN
      IF hung IS NOT NULL THEN EXECUTE format('DROP TRIGGER lookaside_%s ON %s', event, relation); END IF;
      EXECUTE format('CREATE TRIGGER lookaside_%s AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION lookaside.%I()',
        event, CASE event WHEN 'move' THEN move ELSE upper(event) END, relation, CASE event WHEN 'insert' THEN 'REFERENCING NEW TABLE AS new_rows'
          WHEN 'update' THEN 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows'
          WHEN 'delete' THEN 'REFERENCING OLD TABLE AS old_rows' ELSE '' END, lookaside.function_name(label, event));
    END IF;
    EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER lookaside_%s', relation, event);
  END LOOP;
END $$`,
  "DROP FUNCTION IF EXISTS lookaside.lock(OID[], INTEGER, TEXT)",
  // Locks tables, to hang triggers on them or to drop triggers from them, without making writers queue for long:
  // gives up after a moment, lets writers pass, and tries again. All at once: later it would hold some meanwhile.
  // Postgres cancels an autovacuum that keeps others waiting for longer than deadlock_timeout, by default a second. Its
  // processes alone have locks and no user; their type is shown to superusers.
  `CREATE OR REPLACE FUNCTION lookaside.lock(hanging OID[], dropping OID[], tries INTEGER) RETURNS VOID
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
  relation REGCLASS;
BEGIN
  FOR attempt IN 1..tries LOOP
    PERFORM set_config('lock_timeout', CASE WHEN attempt = 2 AND EXISTS (
      SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.relation = ANY (dropping || hanging)
      AND l.granted AND a.datname = current_database() AND a.usesysid IS NULL
    ) THEN '1500ms' ELSE '100ms' END, TRUE);
    BEGIN
      FOREACH relation IN ARRAY dropping LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', relation);
      END LOOP;
      FOREACH relation IN ARRAY hanging LOOP
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', relation);
      END LOOP;
      RETURN;
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
      IF attempt = tries THEN
        RAISE EXCEPTION 'Cannot lock %: a transaction holds it; it was tried % times', relation, tries
          USING ERRCODE = 'lock_not_available', HINT = 'Try again once that transaction has ended: see pg_stat_activity.';
      END IF;
    END;
    PERFORM pg_sleep(0.1 + 0.2 * random());
  END LOOP;
END $$`,
  // Implements lookaside.watch(), with a number of attempts to lock.
  `CREATE OR REPLACE FUNCTION lookaside.watch_table(watched REGCLASS, columns TEXT[], key TEXT[], matter TEXT[], tries INTEGER)
RETURNS BOOLEAN LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  refusal TEXT := lookaside.refusal(watched);
  new_row lookaside.watched;
  old lookaside.watched;
  changed BOOLEAN;
  lacking OID[];
  hanging OID[];
  strays OID[];
  taken OID[];
  names TEXT[];
BEGIN
  IF NOT pg_has_role((SELECT nspowner FROM pg_namespace WHERE nspname = 'lookaside'), 'USAGE') THEN
    refusal := format('schema lookaside belongs to another role than %s', current_user);
  ELSIF (SELECT relowner FROM pg_class WHERE oid = 'lookaside.outbox'::REGCLASS)
    <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'lookaside') THEN
    -- As whose owner the triggers run: they could not write, nor then could anybody.
    refusal := 'the outbox belongs to another role than the schema lookaside';
  END IF;
  IF refusal IS NOT NULL THEN
    RAISE EXCEPTION 'Cannot watch %: %', watched, refusal USING ERRCODE = CASE WHEN refusal LIKE '%belongs to another role%'
      THEN 'insufficient_privilege' ELSE 'wrong_object_type' END;
  END IF;
  key := lookaside.key_of(watched, key);
  PERFORM lookaside.check_columns(watched, key, 'key'), lookaside.check_columns(watched, columns, 'columns'),
    lookaside.check_columns(watched, coalesce(matter, '{}'), 'matter');
  SELECT lookaside.label(n.nspname, c.relname), n.nspname, c.relname, c.oid INTO new_row.label, new_row.table_schema,
    new_row.table_name, new_row.relation FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = watched;
  PERFORM pg_advisory_xact_lock(hashtextextended('lookaside.watch ' || new_row.label, 0));
  new_row.key := key; new_row.columns := columns; new_row.matter := matter;
  changed := lookaside.define_all(watched, new_row.label, key, columns, matter);
  names := ARRAY(SELECT lookaside.function_name(new_row.label, event) FROM unnest(lookaside.events()) event);
  lacking := ARRAY(SELECT lookaside.unattached(watched, names));
  strays := ARRAY(SELECT h.tgrelid FROM lookaside.hung(new_row.label) h EXCEPT SELECT lookaside.family(watched));
  -- Whoever has written before, and not committed yet, has recorded less. Nobody would learn of the rest.
  SELECT * INTO old FROM lookaside.watched w WHERE w.label = new_row.label;
  hanging := CASE WHEN old.key <> key OR NOT old.columns @> columns
      OR old.matter IS NOT NULL AND (matter <@ (old.matter || old.columns || old.key)) IS NOT TRUE
    THEN ARRAY(SELECT lookaside.family(watched)) ELSE lacking END;
  IF hanging <> '{}' OR strays <> '{}' THEN
    -- Those with triggers of another label, which a renamed table had, of a stranger, or maybe for other columns.
    taken := ARRAY(SELECT t.tgrelid FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
      WHERE t.tgrelid = ANY (lacking) AND t.tgname LIKE 'lookaside\\_%' AND (p.proname <> ALL (names)
        OR p.pronamespace <> 'lookaside'::REGNAMESPACE OR t.tgname = 'lookaside_move'));
    PERFORM lookaside.lock(hanging, strays || taken, tries);
    PERFORM lookaside.attach(relation, new_row.label) FROM unnest(lacking) relation;
    PERFORM lookaside.detach(new_row.label, strays, tries);
    changed := TRUE;
  END IF;
  new_row.shape := lookaside.shape(watched);
  IF NOT changed AND old IS NOT DISTINCT FROM new_row THEN RETURN FALSE; END IF;
  DELETE FROM lookaside.watched w WHERE w.label = new_row.label OR (w.table_schema, w.table_name) = (new_row.table_schema, new_row.table_name);
  INSERT INTO lookaside.watched SELECT new_row.*;
  -- Nobody knows what was written before.
  INSERT INTO lookaside.outbox (label) VALUES (new_row.label);
  RETURN TRUE;
END $$`,
  // Attaches a table: SELECT lookaside.watch('orders', columns => '{customer_id}'). Answers true if anything
  // changed; if nothing does, nothing is locked.
  `CREATE OR REPLACE FUNCTION lookaside.watch(watched REGCLASS, columns TEXT[] DEFAULT '{}', key TEXT[] DEFAULT NULL, matter TEXT[] DEFAULT NULL)
RETURNS BOOLEAN LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
  SELECT lookaside.watch_table(watched, coalesce(columns, '{}'), key, matter, ${TRIES_MAX})
$$`,
  // The triggers of a label, on any table. By what depends on their functions: pg_trigger has no index by function.
  `CREATE OR REPLACE FUNCTION lookaside.hung(label TEXT) RETURNS TABLE (tgrelid OID, tgname NAME)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN QUERY SELECT t.tgrelid, t.tgname FROM (
    SELECT d.classid, d.objid FROM pg_depend d WHERE d.refclassid = 'pg_proc'::REGCLASS AND d.refobjid = ANY (ARRAY(
      SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'lookaside'::REGNAMESPACE AND p.proname = ANY (ARRAY(
        SELECT lookaside.function_name(label, event) FROM unnest(lookaside.events()) event))
    )) OFFSET 0
  ) d JOIN pg_trigger t ON d.classid = 'pg_trigger'::REGCLASS AND t.oid = d.objid;
END $$`,
  // Removes the triggers of a label from tables.
  `CREATE OR REPLACE FUNCTION lookaside.detach(label TEXT, relations OID[], tries INTEGER) RETURNS VOID
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  each RECORD;
BEGIN
  PERFORM lookaside.lock('{}', relations, tries);
  FOR each IN SELECT * FROM lookaside.hung(label) h WHERE h.tgrelid = ANY (relations) LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', each.tgname, each.tgrelid::REGCLASS);
  END LOOP;
END $$`,
  // Detaches a table and all its parts. Answers true if it was attached.
  `CREATE OR REPLACE FUNCTION lookaside.unwatch(watched REGCLASS) RETURNS BOOLEAN
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- By its name as well: a dump brings along the OIDs of another database.
  name CONSTANT TEXT := (
    SELECT w.label FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN lookaside.watched w ON w.relation = c.oid OR (w.table_schema, w.table_name) = (n.nspname, c.relname)
    WHERE c.oid = watched ORDER BY w.table_name = c.relname AND w.table_schema = n.nspname DESC LIMIT 1
  );
BEGIN
  IF name IS NULL THEN RETURN FALSE; END IF;
  PERFORM lookaside.forget(name);
  RETURN TRUE;
END $$`,
  // Drops the triggers of a label whose table got a foreign table as a part: Postgres refuses writes to that, as it
  // collects no rows there for triggers.
  `CREATE OR REPLACE FUNCTION lookaside.release(held TEXT) RETURNS VOID
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  relations CONSTANT OID[] := ARRAY(SELECT DISTINCT h.tgrelid FROM lookaside.hung(held) h);
BEGIN
  IF relations = '{}' THEN RETURN; END IF;
  PERFORM lookaside.detach(held, relations, 2);
  INSERT INTO lookaside.outbox (label) VALUES (held);
EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN
  NULL; -- until the next check
END $$`,
  // Detaches a label, even if its table is gone.
  `CREATE OR REPLACE FUNCTION lookaside.forget(gone TEXT) RETURNS VOID
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  event TEXT;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('lookaside.watch ' || gone, 0));
  PERFORM lookaside.detach(gone, ARRAY(SELECT DISTINCT h.tgrelid FROM lookaside.hung(gone) h), ${TRIES_MAX});
  FOREACH event IN ARRAY lookaside.events() LOOP
    EXECUTE format('DROP FUNCTION IF EXISTS lookaside.%I()', lookaside.function_name(gone, event));
  END LOOP;
  DELETE FROM lookaside.watched w WHERE w.label = gone;
END $$`,
  `CREATE OR REPLACE FUNCTION lookaside.watch_statement(w lookaside.watched) RETURNS TEXT
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT format('SELECT lookaside.watch(%L, columns => %L, key => %L%s)', format('%I.%I', w.table_schema, w.table_name), w.columns, w.key,
    CASE WHEN w.matter IS NULL THEN '' ELSE format(', matter => %L', w.matter) END)
$$`,
  // The table of a watch; NULL if there is none. By the catalogs, since to_regclass() fails for a schema that the role may
  // not use.
  `CREATE OR REPLACE FUNCTION lookaside.table_of(w lookaside.watched) RETURNS OID
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT c.oid FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.table_name
  WHERE n.nspname = w.table_schema
$$`,
  // Repairs watched tables. Answers the problems that it cannot repair, with their remedies.
  `CREATE OR REPLACE FUNCTION lookaside.check() RETURNS TABLE (label TEXT, problem TEXT, remedy TEXT)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  w lookaside.watched;
  relation OID;
BEGIN
  -- Last those that have to be locked: their writers wait until all is done.
  FOR w IN SELECT * FROM lookaside.watched a ORDER BY EXISTS (
    SELECT lookaside.unattached(lookaside.table_of(a),
      ARRAY(SELECT lookaside.function_name(a.label, event) FROM unnest(lookaside.events()) event))
  ), a.label LOOP
    -- It is being watched or checked at this moment, maybe by a long transaction, which may wait for us in turn.
    CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtextextended('lookaside.watch ' || w.label, 0));
    -- Again, as it may have been watched in another way since, or no longer.
    SELECT * INTO w FROM lookaside.watched current WHERE current.label = w.label;
    CONTINUE WHEN NOT FOUND;
    label := w.label;
    problem := NULL;
    remedy := lookaside.watch_statement(w);
    relation := lookaside.table_of(w);
    IF relation IS NULL THEN
      problem := format('There is no table %I.%I', w.table_schema, w.table_name);
      remedy := format('SELECT lookaside.forget(%L)', w.label);
    ELSE
      BEGIN
        PERFORM lookaside.watch_table(relation, w.columns, w.key, w.matter, 2);
      EXCEPTION WHEN OTHERS THEN
        problem := SQLERRM;
        -- Otherwise writes would fail. Now they count for the whole table.
        IF EXISTS (SELECT 1 FROM unnest(w.key || w.columns) name WHERE lookaside.is_virtual(relation, name)) THEN
          PERFORM lookaside.define_all(relation, w.label, w.key, w.columns, w.matter);
        END IF;
        IF EXISTS (SELECT 1 FROM lookaside.family(relation) part JOIN pg_class c ON c.oid = part AND c.relkind = 'f') THEN
          PERFORM lookaside.release(w.label);
        END IF;
        BEGIN
          PERFORM lookaside.key_of(relation, w.key);
        EXCEPTION WHEN OTHERS THEN
          w.key := NULL; -- that is the primary key
          remedy := lookaside.watch_statement(w);
        END;
      END;
    END IF;
    IF problem IS NULL AND EXISTS (SELECT 1 FROM pg_subscription_rel s WHERE s.srrelid IN (SELECT lookaside.family(relation))) THEN
      problem := format('%I.%I is written to by a subscription, whose changes fire no trigger of a statement', w.table_schema, w.table_name);
      remedy := 'Watch it where it is published';
    END IF;
    IF problem IS NOT NULL THEN RETURN NEXT; END IF;
  END LOOP;
END $$`,
];
