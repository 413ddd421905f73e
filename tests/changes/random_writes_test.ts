/**
 * Statements of every kind, at random: the rows that a statement changes are compared with what it recorded.
 */
import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { keyOf, valueOf } from "../../changes/names.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";

/**
 * Parts with other orders of columns, foreign keys that cascade, a trigger that changes a row, one that writes to
 * another table and one that does so at the commit, views and a rule.
 */
const TABLES = `
  CREATE TABLE people (id INT PRIMARY KEY, boss INT REFERENCES people
    ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE things (gone INT, id INT, region TEXT, owner INT REFERENCES people ON DELETE CASCADE ON UPDATE CASCADE,
    note TEXT, made TEXT GENERATED ALWAYS AS (note || '!') STORED, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
  ALTER TABLE things DROP COLUMN gone;
  CREATE TABLE things_a PARTITION OF things FOR VALUES IN ('a') PARTITION BY RANGE (id);
  CREATE TABLE things_a1 PARTITION OF things_a FOR VALUES FROM (0) TO (9);
  CREATE TABLE things_a2 (note TEXT, made TEXT GENERATED ALWAYS AS (note || '!') STORED,
    region TEXT NOT NULL, owner INT, id INT NOT NULL);
  ALTER TABLE things_a ATTACH PARTITION things_a2 FOR VALUES FROM (9) TO (999);
  CREATE TABLE things_b PARTITION OF things DEFAULT;
  CREATE TABLE kinds (id INT PRIMARY KEY, v TEXT);
  CREATE TABLE kinds_1 (more INT, v TEXT, id INT NOT NULL);
  ALTER TABLE kinds_1 INHERIT kinds;
  CREATE FUNCTION before_things() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.note = 'skip' THEN RETURN NULL; END IF;
    IF NEW.note = 'change' THEN NEW.owner := NULL; END IF;
    RETURN NEW;
  END $$;
  CREATE TRIGGER before_things BEFORE INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION before_things();
  CREATE FUNCTION after_things() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.note = 'deep' THEN UPDATE things SET note = 'deeper' WHERE id = NEW.id; END IF;
    UPDATE kinds SET v = NEW.note WHERE id = NEW.id;
    RETURN NULL;
  END $$;
  CREATE TRIGGER after_things AFTER INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION after_things();
  CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF pg_trigger_depth() < 2 THEN UPDATE kinds SET v = v || '+' WHERE id = NEW.id + 1; END IF;
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON kinds DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit();
  CREATE VIEW some_things AS SELECT id, region, owner, note FROM things WHERE id < 15;
  CREATE VIEW ruled AS SELECT id, v FROM kinds;
  CREATE RULE ruled AS ON UPDATE TO ruled DO INSTEAD (
    UPDATE kinds SET v = NEW.v WHERE id = OLD.id; DELETE FROM kinds_1 WHERE id = OLD.id + 1)`;

const START = `TRUNCATE people, things, kinds;
  INSERT INTO people SELECT g, nullif(g - 1, 0) FROM generate_series(1, 5) g;
  INSERT INTO things SELECT g, CASE g % 2 WHEN 0 THEN 'a' ELSE 'b' END, 1 + g % 5, 'n' FROM generate_series(1, 18) g;
  INSERT INTO kinds SELECT g, 'k' FROM generate_series(1, 4) g;
  INSERT INTO kinds_1 (id, v) SELECT g, 'k' FROM generate_series(5, 8) g`;

/** Watched tables, with their keys, the watched columns, and the rest. */
const WATCHED = [
  { table: "people", key: ["id"], columns: ["boss"], rest: [] },
  { table: "things", key: ["id", "region"], columns: ["owner", "made"], rest: ["note"] },
  { table: "kinds", key: ["id"], columns: ["v"], rest: [] },
];

const id = fc.integer({ min: 0, max: 20 });
const person = fc.integer({ min: 1, max: 6 });
const region = fc.constantFrom("'a'", "'b'", "'c d'");
const note = fc.constantFrom("'x'", "'skip'", "'change'", "'deep'", "NULL", "note");
const things = fc.constantFrom("things", "things_a", "things_a1", "things_b", "some_things");
const kinds = fc.constantFrom("kinds", "ONLY kinds", "kinds_1", "ruled");

/** Replaces each `?` with a text of the arbitrary in its place. */
function statement(text: string, ...values: fc.Arbitrary<string | number>[]): fc.Arbitrary<string> {
  return fc.tuple(...values).map((chosen) =>
    chosen.reduce<string>((sql, each) => sql.replace("?", `${each}`), text)
  );
}

const statements = fc.oneof(
  statement("INSERT INTO things VALUES (?, ?, ?, 'i') ON CONFLICT DO NOTHING", id, region, person),
  statement(
    "INSERT INTO things (id, region, note) VALUES (?, ?, 'i') ON CONFLICT (id, region) DO UPDATE SET note = 'c'",
    id,
    region,
  ),
  statement("UPDATE ? SET note = ? WHERE id BETWEEN ? AND ?", things, note, id, id),
  statement("UPDATE ? SET region = ?, id = id + 1 WHERE id = ?", things, region, id),
  statement("DELETE FROM ? WHERE id = ?", things, id),
  statement(
    "MERGE INTO things t USING (VALUES (?)) s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET region = ?",
    id,
    region,
  ),
  statement(
    "MERGE INTO things t USING (VALUES (?)) s (id) ON t.id = s.id WHEN MATCHED AND t.id < 9 THEN DELETE WHEN MATCHED THEN UPDATE SET region = ?",
    id,
    region,
  ),
  statement(
    "MERGE INTO kinds t USING generate_series(?, ?) s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = 'm' WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'm')",
    id,
    id,
  ),
  statement(
    "WITH d AS (DELETE FROM things WHERE id = ? RETURNING *) INSERT INTO kinds SELECT id, note FROM d ON CONFLICT DO NOTHING",
    id,
  ),
  statement("UPDATE ? SET v = 'v' WHERE id BETWEEN ? AND ?", kinds, id, id),
  statement("UPDATE kinds SET id = id + 1 WHERE id = ?", id),
  statement("DELETE FROM people WHERE id = ?", person),
  statement("UPDATE people SET id = id + 10 WHERE id = ?", person),
  statement("UPDATE people SET boss = ? WHERE id = ?", person, person),
  statement("TRUNCATE ?", fc.constantFrom("things_a", "kinds_1", "people CASCADE")),
  statement(
    "DO $$ BEGIN UPDATE kinds SET v = 'kept'; BEGIN UPDATE things SET note = 'lost'; RAISE 'x'; EXCEPTION WHEN OTHERS THEN DELETE FROM people WHERE id = ?; END; END $$",
    person,
  ),
);

describe("what a statement records", () => {
  let fixture: ChangesFixture;
  beforeAll(async () => {
    fixture = await createChangesDatabase();
    await fixture.owner.unsafe(TABLES);
  });
  afterAll(async () => await fixture[Symbol.asyncDispose]());

  /** The rows of a table by their texts, each with the names that its change is to be recorded by. */
  async function rowsOf(
    { table, key, columns }: (typeof WATCHED)[number],
  ): Promise<Map<string, string[]>> {
    const text = (names: string[]) => `ARRAY[${names.map((name) => `${name}::TEXT`)}]`;
    const rows = await fixture.owner.unsafe<
      { whole: string; keys: string[]; values: (string | null)[] }[]
    >(
      `SELECT t::TEXT AS whole, to_json(${text(key)}) AS keys, to_json(${
        text(columns)
      }) AS values FROM ${table} t`,
    );
    return new Map(rows.map(({ whole, keys, values }) => [
      whole,
      [keyOf(keys), ...columns.map((name, at) => valueOf(name, values[at] ?? null))],
    ]));
  }

  for (const matter of [false, true]) {
    it(`is each row that it has changed, with its values${matter ? ", where columns matter" : ""}`, async () => {
      for (const { table, columns, rest } of WATCHED) {
        await fixture.owner.unsafe(
          `SELECT lookaside.watch('${table}', '{${columns}}'${
            matter ? `, matter => '{${rest}}'` : ""
          })`,
        );
      }
      await fc.assert(
        fc.asyncProperty(fc.array(statements, { minLength: 1, maxLength: 12 }), async (all) => {
          await fixture.owner.unsafe(START);
          await fixture.noted();
          for (const each of all) {
            const before = await Promise.all(WATCHED.map(rowsOf));
            await fixture.owner.unsafe(each).catch(() => undefined); // it breaks a constraint
            const recorded = await fixture.noted();
            for (const [at, watched] of WATCHED.entries()) {
              const { table } = watched;
              const of = recorded.filter(({ label }) => label === table);
              if (of.some(({ keys }) => keys === null)) continue;
              const names = new Set(
                of.flatMap(({ keys, values }) => [...keys ?? [], ...values ?? []]),
              );
              const [old, now] = [before[at] ?? new Map(), await rowsOf(watched)];
              const changed = [...old, ...now].filter(([whole]) =>
                !old.has(whole) || !now.has(whole)
              );
              const missed = changed.filter(([, wanted]) =>
                !wanted.every((name: string) => names.has(name))
              );
              assertEquals(missed, [], `${each} of ${table}`);
            }
          }
        }),
        { numRuns: 25 },
      );
    });
  }
});
