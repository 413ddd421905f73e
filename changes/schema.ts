/**
 * The SQL of the changes: what every committed change of a watched table records, in the transaction of any writer.
 *
 * @module
 */
import { cleaningSql, tablesSql } from "./_tables_sql.ts";
import { triggersSql } from "./_triggers_sql.ts";
import { watchSql } from "./_watch_sql.ts";
import { watchableSql } from "./_watchable_sql.ts";

/**
 * The path along which to install. Otherwise a function or operator of another schema that suits the types better is
 * taken for that of Postgres: for good, where it is part of a default, evaluated as the owner with each write.
 */
export const INSTALL_PATH = "SET LOCAL search_path = pg_catalog, pg_temp";

/** The version of {@linkcode changesSql}; increment it with each change. */
export const changesVersion = 23;

/**
 * Its statements. Each may run again on a schema of an earlier version.
 *
 * The role that runs them owns the schema and runs the triggers. Other roles have no rights in it unless admitted.
 */
export const changesStatements: readonly string[] = [
  "CREATE SCHEMA IF NOT EXISTS lookaside",
  // The owner of a schema may put functions of its own there. Those of ours would call them, as another role; and
  // new ones of another role would be of no use to the owner.
  // Names are hashes of UTF-8, and a conversion may fail for a text that the write accepted.
  `DO $$
DECLARE
  owner CONSTANT NAME := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'lookaside');
BEGIN
  IF owner <> current_user THEN
    RAISE EXCEPTION 'Cannot install into the schema lookaside: it belongs to %', owner
      USING ERRCODE = 'insufficient_privilege', HINT = format('If you trust it: SET ROLE %I', owner);
  ELSIF getdatabaseencoding() NOT IN ('UTF8', 'SQL_ASCII') THEN
    RAISE EXCEPTION 'Cannot watch a database in %: it has to be in UTF8', getdatabaseencoding()
      USING ERRCODE = 'feature_not_supported';
  END IF;
END $$`,
  "REVOKE ALL ON SCHEMA lookaside FROM PUBLIC",
  ...tablesSql,
  ...triggersSql,
  ...watchableSql,
  ...watchSql,
  ...cleaningSql,
  // The rights that a role needs to relay, and no others: SELECT lookaside.admit('my_service').
  `CREATE OR REPLACE FUNCTION lookaside.admit(service REGROLE) RETURNS VOID
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA lookaside TO %s', service);
  EXECUTE format('GRANT SELECT ON lookaside.outbox, lookaside.watched, lookaside.installed TO %s', service);
  EXECUTE format('GRANT SELECT, INSERT, DELETE ON lookaside.looks, lookaside.done TO %s', service);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON lookaside.caches, lookaside.writers TO %s', service);
  EXECUTE format('GRANT SELECT, UPDATE ON SEQUENCE lookaside.doorbell TO %s', service);
  EXECUTE format('GRANT EXECUTE ON FUNCTION lookaside.check(), lookaside.clean(), lookaside.plain(TEXT), '
    'lookaside.plain_sql(TEXT), lookaside.hashed_sql(TEXT) TO %s', service);
END $$`,
  "REVOKE ALL ON ALL TABLES IN SCHEMA lookaside FROM PUBLIC",
  "REVOKE ALL ON ALL SEQUENCES IN SCHEMA lookaside FROM PUBLIC",
  "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA lookaside FROM PUBLIC",
  `INSERT INTO lookaside.installed (version) VALUES (${changesVersion})
ON CONFLICT (only_one) DO UPDATE SET version = excluded.version`,
];

/** The statements as one text, for psql. */
export const changesSql: string = `BEGIN;\nSET LOCAL lock_timeout = '2s';\n${INSTALL_PATH};\n\n${
  changesStatements.join(";\n\n")
};\n\nCOMMIT;\n`;
