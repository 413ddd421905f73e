import { connect } from "@db/driver";
import {
  assert,
  assertEquals,
  assertFalse,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Ajv2020 } from "ajv/dist/2020.js";
import { z } from "zod";
import { Cache, systemRuntime } from "../../cache/mod.ts";
import { installChanges } from "../../changes/mod.ts";
import { changesDatabase } from "../../db/changes_database.ts";
import { type Database, DatabaseUnavailableError } from "../../db/database.ts";
import { DeclarationError } from "../../db/table_shape.ts";
import { createApp } from "../../routes/app.ts";
import { InvalidationLog } from "../../cache/dashboard/mod.ts";
import { type Resource, resource } from "../../routes/resource.ts";
import { openTables } from "../../routes/table.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

const SCHEMA = `
  CREATE TYPE state AS ENUM ('open', 'paid');
  CREATE TABLE customers (id BIGINT PRIMARY KEY, name TEXT);
  CREATE TABLE orders (
    id SERIAL PRIMARY KEY, customer_id BIGINT NOT NULL REFERENCES customers, state state NOT NULL DEFAULT 'open',
    code VARCHAR(5) UNIQUE, cents INTEGER CHECK (cents >= 0), secret TEXT DEFAULT 'hidden');
  CREATE INDEX ON orders (customer_id);
  CREATE TABLE tags (name TEXT PRIMARY KEY, uses INTEGER);
  CREATE TABLE tokens (id UUID PRIMARY KEY, made TIMESTAMPTZ);
  CREATE TABLE memberships (user_id INTEGER, team VARCHAR(20), role TEXT, PRIMARY KEY (user_id, team));
  CREATE TABLE odd (
    id INTEGER PRIMARY KEY, amount NUMERIC, doc JSONB, big BIGINT, list NUMERIC[], at TIMESTAMP, day DATE,
    real8 DOUBLE PRECISION, flag BOOLEAN);
  CREATE TABLE kinds (
    id BIGINT PRIMARY KEY, big BIGINT, small INTEGER NOT NULL, flag BOOLEAN, state state, list INTEGER[], doc JSONB,
    uid UUID, day DATE, at TIMESTAMPTZ, word TEXT, amount NUMERIC, real8 DOUBLE PRECISION);
  INSERT INTO kinds (id, small, amount, real8, day, at) VALUES
    (2, 7, 1.50, '-Infinity', '2026-01-02', '2026-01-02'), (3, 7, 'NaN', 'NaN', 'infinity', '-infinity'),
    (4, 7, 1e30, 'Infinity', '0044-03-15 BC', '0044-03-15 BC'), (5, 7, 0, 0.1, '12026-01-02', '12026-01-02');
  INSERT INTO kinds (id, big, small) VALUES (1, 9007199254740993, 7), (9007199254740993, NULL, 7);
  CREATE TABLE keyless (name TEXT);
  CREATE TABLE docs (id SERIAL PRIMARY KEY);
  CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
  CREATE TABLE codes (code CHAR(4), word TEXT COLLATE caseless, uses INTEGER, PRIMARY KEY (code, word));
  CREATE TABLE texts (id SERIAL PRIMARY KEY, doc JSONB, query TSQUERY, long TEXT UNIQUE, of REGCLASS);
  CREATE TABLE races (id SERIAL PRIMARY KEY, constructor TEXT DEFAULT 'Lotus', "toString" TEXT);
  CREATE TABLE ruled (id SERIAL PRIMARY KEY, word TEXT);
  CREATE FUNCTION rule() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP = 'DELETE' OR NEW.word = 'dropped' THEN RETURN NULL; END IF;
    IF NEW.word = 'raised' THEN RAISE 'no' USING ERRCODE = 'ABC12'; END IF;
    RETURN NEW; END $$;
  CREATE TRIGGER rule BEFORE INSERT OR UPDATE OR DELETE ON ruled FOR EACH ROW EXECUTE FUNCTION rule();
  INSERT INTO codes VALUES ('ab', 'Word', 1);
  INSERT INTO customers VALUES (1, 'a'), (9007199254740993, 'big');
  INSERT INTO orders (customer_id, code, cents) SELECT 1 + 9007199254740992 * (i % 2), 'c' || i, i FROM generate_series(1, 6) i;
  INSERT INTO tags VALUES ('plain', 1), ('a,b/c {d}', 2), ('', 3), ('*', 4);
  INSERT INTO tokens VALUES ('0b9e4c5e-5f3a-4c1e-9b1a-111111111111', '2026-01-02 03:04:05.678+02');
  INSERT INTO memberships VALUES (7, 'red', 'owner'), (7, 'a,b', 'guest'), (8, 'red', 'guest');
  INSERT INTO odd VALUES
    (1, 12345678901234567890.10, '{"n": 1.10, "big": 12345678901234567890}', 9007199254740993, '{1.50,NaN}',
      '2026-01-02 03:04:05.678901', '2026-01-02', 0.1, true),
    (2, 'NaN', 'null', 5, NULL, 'infinity', '-infinity', 'Infinity', NULL)`;

const Order = z.object({
  id: z.int(),
  customer_id: z.int(),
  state: z.enum(["open", "paid"]),
  code: z.string().nullable(),
  cents: z.int().nullable(),
});
const OrderBody = z.object({
  customer_id: z.union([z.int(), z.string()]),
  state: z.enum(["open", "paid"]).optional(),
  code: z.string().nullable().default(null),
  cents: z.int().nullable(),
});
const anything = z.unknown();

const declared: readonly Resource[] = [
  resource("customers", { row: z.object({ id: z.int(), name: z.string().nullable() }) }),
  resource("orders", { row: Order, write: OrderBody, filters: ["customer_id", "state"] }),
  resource("tags", {
    row: z.object({ name: z.string(), uses: z.int() }),
    write: z.object({ name: z.string(), uses: z.int() }),
  }),
  resource("codes", {
    row: z.object({ code: z.string(), word: z.string(), uses: z.int() }),
    write: z.object({ code: z.string(), word: z.string(), uses: z.int() }),
  }),
  resource("texts", {
    row: z.object({ id: z.int(), doc: anything, query: anything, long: anything, of: anything }),
    write: z.object({
      id: z.int(),
      doc: anything,
      query: anything,
      long: anything,
      of: anything,
    }).partial(),
  }),
  resource("tokens", { row: z.object({ id: z.uuid(), made: z.iso.datetime() }) }),
  resource("memberships", {
    row: z.object({ user_id: z.int(), team: z.string(), role: z.string() }),
    write: z.object({ user_id: z.int(), team: z.string(), role: z.string() }),
    filters: ["user_id"],
  }),
  resource("races", {
    row: z.object({ id: z.int(), constructor: anything, toString: anything }),
    write: z.object({ constructor: anything, toString: anything }).partial(),
    filters: ["constructor"],
  }),
  resource("ruled", {
    row: z.object({ id: z.int(), word: z.string() }),
    write: z.object({ word: z.string() }),
  }),
  resource("odd", {
    row: z.object({
      id: z.int(),
      amount: anything,
      doc: anything,
      big: anything,
      list: anything,
      at: anything,
      day: anything,
      real8: anything,
      flag: anything,
    }),
    write: z.object({
      id: z.int(),
      amount: z.number(),
      doc: anything,
      big: z.number(),
      real8: z.number(),
      list: z.array(z.number()).transform((list) => [0, ...list]),
    }).partial({ doc: true, list: true }),
  }),
];

let testDatabase: TestDatabase;
let database: Database;
let cache: Cache;
let errors: unknown[] = [];
let send: (path: string, init?: RequestInit & { json?: unknown }) => Promise<Answer>;

interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly data: Record<string, unknown> & Record<string, unknown>[];
}

/** The service over a real Postgres and a cache in memory. */
function open(resources: readonly Resource[]): typeof send {
  const app = createApp({
    cache,
    database,
    clock: systemRuntime.clock,
    listTtlMs: 60_000,
    tables: openTables(resources, database),
    access: { adminTokens: [], open: "on" },
    warm: () => Promise.resolve(0),
    invalidations: new InvalidationLog(systemRuntime.clock),
    stopping: new AbortController().signal,
    ready: () => true,
    onError: (error) => void errors.push(error),
  });
  return async (path, { json, ...init } = {}) => {
    const body = json === undefined ? {} : {
      body: JSON.stringify(json),
      headers: { "content-type": "application/json", ...init.headers as Record<string, string> },
    };
    const response = await app.request(path, { ...init, ...body });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json");
    return {
      status: response.status,
      headers: response.headers,
      text,
      data: isJson ? JSON.parse(text).data : undefined,
    };
  };
}

describe("declared tables", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    database = connect({ url: testDatabase.url });
    await database.query(SCHEMA);
    cache = new Cache({ url: "memory:" });
    send = open(declared);
  });
  afterAll(async () => {
    await cache.close();
    await database.close();
    await testDatabase[Symbol.asyncDispose]();
  });

  it("answers a row by a key of each type, from the database and then from the cache", async () => {
    for (
      const [path, part] of [
        ["/customers/1", '"data":{"id":1,"name":"a"}'],
        ["/customers/9007199254740993", '"data":{"id":"9007199254740993","name":"big"}'],
        ["/tags/plain", '"data":{"name":"plain","uses":1}'],
        ["/tags/a%2Cb%2Fc%20%7Bd%7D", '"data":{"name":"a,b/c {d}","uses":2}'],
        ["/tags/*", '"uses":4'],
        [
          "/tokens/0b9e4c5e-5f3a-4c1e-9b1a-111111111111",
          '"made":"2026-01-02T01:04:05.678Z"',
        ],
        ["/memberships/7,red", '"data":{"user_id":7,"team":"red","role":"owner"}'],
        ["/memberships/7,a%2Cb", '"role":"guest"'],
      ] as const
    ) {
      const first = await send(path);
      assertEquals([first.status, first.text.includes(part)], [200, true], first.text);
      assertMatch(first.text, /"source":"database"/);
      const again = await send(path);
      assertEquals(
        again.text.replace("cache", "database").replace(/"duration":"[^"]+"/, ""),
        first.text.replace(/"duration":"[^"]+"/, ""),
      );
      assertMatch(
        again.headers.get("cache-status") ?? "",
        /^Lookaside; hit; ttl=\d+; detail=memory$/,
      );
      const unchanged = await send(path, {
        headers: { "if-none-match": again.headers.get("etag") ?? "" },
      });
      assertEquals(unchanged.status, 304);
    }
  });

  it("refuses what is no key of the table, and answers 404 for one without a row", async () => {
    for (
      const [path, status] of [
        ["/customers/01", 400],
        ["/customers/9223372036854775808", 400],
        ["/customers/-9223372036854775808", 404],
        ["/orders/2147483648", 400],
        ["/orders/-1", 404],
        ["/tokens/0B9E4C5E-5F3A-4C1E-9B1A-111111111111", 400],
        ["/tokens/x", 400],
        ["/tags/%00", 400],
        ["/tags/%", 400],
        ["/tags/%FF", 400],
        ["/tags/%25FF", 404],
        ["/tags?ids=%FF", 400],
        ["/tags?after=%25FF", 200],
        ["/tags/nothing", 404],
        ["/memberships/7", 400],
        ["/memberships/7,red,x", 400],
        ["/memberships/x,red", 400],
        ["/memberships/7,%ff", 400],
        ["/memberships/9,red", 404],
      ] as const
    ) {
      const { status: answered, text } = await send(path);
      assertEquals(answered, status, `${path}: ${text}`);
    }
  });

  it("keeps the digits of every type as Postgres has them", async () => {
    const { text } = await send("/odd/1");
    for (
      const part of [
        '"amount":12345678901234567890.10,',
        '"n":1.10',
        '"big":12345678901234567890}',
        '"big":"9007199254740993"',
        '"list":[1.50,"NaN"]',
        '"at":"2026-01-02T03:04:05.678Z"',
        '"day":"2026-01-02"',
        '"real8":0.1,',
        '"flag":true',
      ]
    ) assert(text.includes(part), `${part} in ${text}`);
    const hit = await send("/odd/1");
    assertEquals(hit.text.slice(hit.text.indexOf('"data"')), text.slice(text.indexOf('"data"')));
    const { data } = await send("/odd/2");
    assertEquals(data as unknown, {
      id: 2,
      amount: "NaN",
      doc: null,
      big: 5,
      list: null,
      at: "infinity",
      day: "-infinity",
      real8: "Infinity",
      flag: null,
    });
  });

  it("answers numbers as such also after an integer was made a bigint while the service runs", async () => {
    await database.query(`
      CREATE TABLE grown (id SERIAL PRIMARY KEY, of INTEGER); INSERT INTO grown (of) VALUES (5), (6)`);
    const row = z.object({ id: z.int(), of: z.int() });
    const ask = open([resource("grown", { row, write: row.omit({ id: true }), filters: ["of"] })]);
    assertEquals<unknown>((await ask("/grown/1")).data, { id: 1, of: 5 });
    await database.query("ALTER TABLE grown ALTER id TYPE BIGINT, ALTER of TYPE BIGINT");
    assertEquals<unknown>((await ask("/grown/2")).data, { id: 2, of: 6 });
    assertEquals<unknown>((await ask("/grown?of=6")).data, [{ id: 2, of: 6 }]);
    const { data } = await ask("/grown/2", { method: "PATCH", json: { of: 7 } });
    assertEquals<unknown>(data, { id: 2, of: 7 });
  });

  it("reads a domain of a domain as the type that it comes down to", async () => {
    await database.query(`
      CREATE DOMAIN instant AS TIMESTAMPTZ; CREATE DOMAIN past AS instant CHECK (VALUE < now());
      CREATE DOMAIN number AS INTEGER; CREATE DOMAIN digit AS number CHECK (VALUE < 10);
      CREATE TABLE digits (id digit PRIMARY KEY, at past);
      INSERT INTO digits VALUES (1, '2026-01-02 03:04:05+02')`);
    const ask = open([
      resource("digits", { row: z.object({ id: z.int(), at: z.iso.datetime() }), filters: ["id"] }),
    ]);
    const row = [{ id: 1, at: "2026-01-02T01:04:05.000Z" }];
    assertEquals<unknown>((await ask("/digits/1")).data, row[0]);
    assertEquals<unknown>((await ask("/digits?id=1")).data, row);
  });

  it("lists by keys, page, key before, and filters", async () => {
    const ids = async (query: string) => (await send(query)).data.map(({ id }) => id);
    assertEquals(await ids("/orders?limit=2&page=2"), [3, 4]);
    assertEquals(await ids("/orders?after=4"), [5, 6]);
    assertEquals(await ids("/orders?ids=6,1,77"), [6, 1]);
    assertEquals(await ids("/orders?customer_id=1"), [2, 4, 6]);
    assertEquals(await ids("/orders?customer_id=9007199254740993&limit=1&page=2"), [3]);
    assertEquals(await ids("/orders?customer_id=1&state=open&after=2"), [4, 6]);
    assertEquals(await ids("/orders?state=unknown"), []);
    const teams = async (query: string) => (await send(query)).data.map(({ team }) => team);
    assertEquals(await teams("/memberships?after=7,a%252Cb"), ["red", "red"]);
    assertEquals(await teams("/memberships?ids=8,red;7,red"), ["red", "red"]);
    assertEquals((await send("/tags?after=*")).data.map(({ name }) => name), [
      "a,b/c {d}",
      "plain",
    ]);
    for (const query of ["customer_id=x", "customer_id=1&ids=2", "after=x", "page=0", "ids=x"]) {
      assertEquals((await send(`/orders?${query}`)).status, 400, query);
    }
    const { text } = await send("/orders/1");
    assert(!text.includes("secret") && !text.includes("hidden"), "only the columns of the schema");
  });

  it("writes the digits of numbers as they were sent, and small ones in any form", async () => {
    const digits = '{"n":12345678901234567890.10,"many":[1e400,0.12345678901234567]}';
    const body = `{"id":3,"amount":12345678901234567890.10,"big":9007199254740993,` +
      `"real8":0.1000000000000000055,"doc":${digits},"list":[12345678901234567890]}`;
    const headers = { "content-type": "application/json" };
    const made = await send("/odd", { method: "POST", headers, body });
    assertEquals(made.status, 201, made.text);
    const [row] = await database.query<Record<string, string>>(
      "SELECT amount::text, big::text, real8::text, doc::text, list::text FROM odd WHERE id = 3",
    );
    assertEquals(row?.amount, "12345678901234567890.10");
    assertEquals([row?.big, row?.real8], ["9007199254740993", "0.1"]);
    assert(row?.doc?.includes('"n": 12345678901234567890.10'), row?.doc);
    assert(row?.doc?.includes(`[1${"0".repeat(400)}, 0.12345678901234567]`), row?.doc);
    assertEquals(row?.list, "{0,12345678901234567000}"); // the schema made another value of it
    const whole = { method: "POST", headers, body: '{"id":4.0,"amount":1e2,"big":5e0,"real8":1}' };
    assertEquals((await send("/odd", whole)).data.big, 5);
    for (const id of [3, 4]) await send(`/odd/${id}`, { method: "DELETE" });
  });

  it("writes a bigint of a schema", async () => {
    const row = z.object({ id: z.int(), big: z.unknown() });
    const body = z.object({ id: z.int(), big: z.coerce.bigint() });
    const sendTo = open([resource("odd", { row, write: body })]);
    for (const [sent, stored] of [["5", 5], ['"9007199254740995"', "9007199254740995"]] as const) {
      const headers = { "content-type": "application/json" };
      const made = await sendTo("/odd", {
        method: "POST",
        headers,
        body: `{"id":5,"big":${sent}}`,
      });
      assertEquals([made.status, made.data?.big as unknown], [201, stored]);
      const exact = { method: "PATCH", headers, body: '{"big":9007199254740993}' };
      assertEquals((await sendTo("/odd/5", exact)).data.big as unknown, "9007199254740993");
      await sendTo("/odd/5", { method: "DELETE" });
    }
  });

  it("leaves as it is what a PATCH does not give, however its default is declared", async () => {
    const row = z.object({ user_id: z.int(), team: z.string(), role: z.string().nullable() });
    for (
      const role of [
        z.string().default("guest"),
        z.string().default("guest").nullable(),
        z.string().default("guest").transform((text) => text.trim()),
        z.string().prefault("guest").readonly(),
        z.lazy(() => z.union([z.string().default("guest"), z.null()])),
      ]
    ) {
      const ask = open([resource("memberships", { row, write: row.extend({ role }) })]);
      const key = { user_id: 9, team: "blue" };
      await ask("/memberships/9,blue", { method: "DELETE" });
      const made = await ask("/memberships", { method: "POST", json: key });
      assertEquals(made.data.role, "guest");
      const write = (method: string, json: unknown) => ask("/memberships/9,blue", { method, json });
      assertEquals((await write("PATCH", { role: "owner" })).data.role, "owner");
      assertEquals((await write("PATCH", { team: "blue" })).data.role, "owner");
      assertEquals((await write("PUT", key)).data.role, "guest");
    }
  });

  it("takes rules that are decided later, as they are declared", async () => {
    const isKnown = (word: string) => Promise.resolve(word !== "unknown");
    const Word = z.object({ word: z.string().refine(isKnown, { error: "Unknown" }) });
    const row = z.object({ id: z.int(), word: z.string() });
    const ask = open([resource("ruled", { row, write: Word })]);
    const { status, data } = await ask("/ruled", { method: "POST", json: { word: "known" } });
    assertEquals([status, data.word], [201, "known"]);
    for (const [method, path] of [["POST", ""], ["PUT", `/${data.id}`], ["PATCH", `/${data.id}`]]) {
      const answer = await ask(`/ruled${path}`, {
        method: method ?? "",
        json: { word: "unknown" },
      });
      const issues = [{ path: "word", message: "Unknown" }];
      assertEquals([answer.status, JSON.parse(answer.text).issues], [400, issues], method);
    }
    assertEquals(errors, []);
  });

  it("lists by a label that an enum gets while the service runs", async () => {
    assertEquals((await send("/orders?state=late")).data.length, 0);
    await database.query("ALTER TYPE state ADD VALUE 'late'");
    await database.query("UPDATE orders SET state = 'late' WHERE id = 6");
    await cache.clear();
    assertEquals((await send("/orders?state=late")).data.length, 1);
    await database.query("UPDATE orders SET state = 'open' WHERE id = 6");
    await cache.clear();
    assertEquals((await send("/orders?state=no")).data.length, 0);
  });

  it("writes what `write` names, and nothing else, and each list is new at once", async () => {
    await send("/orders?customer_id=1");
    await send("/orders?state=paid");
    const made = await send("/orders", { method: "POST", json: { customer_id: 1, cents: 5 } });
    assertEquals([made.status, made.headers.get("location")], [201, "/orders/7"]);
    assertEquals((await send("/orders?customer_id=1")).data.length, 4);
    const moved = { customer_id: "9007199254740993", state: "paid", cents: 6 };
    const put = await send("/orders/7", { method: "PUT", json: moved });
    assertEquals([put.status, put.data.state, put.data.customer_id], [
      200,
      "paid",
      "9007199254740993",
    ]);
    assertEquals((await send("/orders?customer_id=1")).data.length, 3);
    assertEquals((await send("/orders?state=paid")).data.length, 1);
    const reset = await send("/orders/7", { method: "PUT", json: { customer_id: 1, cents: null } });
    assertEquals([reset.data.state, reset.data.cents, reset.data.code], ["open", null, null]);
    const patched = await send("/orders/7", { method: "PATCH", json: { cents: 9 } });
    assertEquals([patched.data.cents, patched.data.customer_id], [9, 1]);
    for (
      const json of [{ customer_id: 1, cents: 1, secret: "x" }, { id: 5, customer_id: 1, cents: 1 }]
    ) {
      assertEquals((await send("/orders", { method: "POST", json })).status, 400);
    }
    assertEquals((await send("/orders/7", { method: "DELETE" })).status, 204);
    assertEquals((await send("/orders/7")).status, 404);
    assertEquals((await send("/customers/1", { method: "DELETE" })).status, 405);
    const member = { user_id: 9, team: "x,y", role: "new" };
    const joined = await send("/memberships", { method: "POST", json: member });
    assertEquals(joined.headers.get("location"), "/memberships/9,x%2Cy");
    assertEquals((await send("/memberships/9,x%2Cy", { method: "DELETE" })).status, 204);
  });

  it("writes a row by whose key lists can be filtered", async () => {
    const role = async (method: string, json: object) =>
      (await send("/memberships/8,red", { method, json })).data?.role as unknown;
    assertEquals(await role("PATCH", { role: "member" }), "member");
    assertEquals(await role("PUT", { user_id: 8, team: "red", role: "guest" }), "guest");
  });

  it("reads and writes columns with the names of what every object has", async () => {
    const made = await send("/races", { method: "POST", json: { toString: "a" } });
    assertEquals(made.data as unknown, { id: 1, constructor: "Lotus", toString: "a" });
    const patched = await send("/races/1", { method: "PATCH", json: { toString: "b" } });
    assertEquals(patched.data as unknown, { id: 1, constructor: "Lotus", toString: "b" });
    assertEquals((await send("/races")).data.length, 1);
    assertEquals((await send("/races?constructor=Lotus")).data.length, 1);
    assertEquals((await send("/races?constructor=Ferrari")).data.length, 0);
  });

  it("answers the new row at once under a key that a write has given it", async () => {
    assertEquals((await send("/tags/renamed")).status, 404);
    await send("/tags", { method: "POST", json: { name: "named", uses: 1 } });
    const { status } = await send("/tags/named", { method: "PATCH", json: { name: "renamed" } });
    assertEquals(status, 200);
    assertEquals((await send("/tags/renamed")).data.uses as unknown, 1);
    assertEquals((await send("/tags/named")).status, 404);
    await send("/tags/renamed", { method: "DELETE" });
  });

  it("makes no row under a key that no request could write afterwards", async () => {
    const [longest, longer] = ["ä".repeat(1_000), "ä".repeat(1_001)];
    const made = await send("/tags", { method: "POST", json: { name: longest, uses: 1 } });
    assertEquals(made.status, 201);
    const one = made.headers.get("location") ?? "";
    assertEquals((await send(one)).status, 200);
    for (const [path, method] of [["/tags", "POST"], [one, "PUT"], [one, "PATCH"]] as const) {
      const refused = await send(path, { method, json: { name: longer, uses: 2 } });
      assertEquals(refused.status, 400, method);
      assertMatch(refused.text, /"path":"name","message":"Expected at most 1000 char/);
    }
    assertEquals((await send(one)).data.uses as unknown, 1);
    await send(one, { method: "DELETE" });
  });

  it("leaves the key as it is in a PUT that does not give one, whatever its default is", async () => {
    const made = await send("/texts", { method: "POST", json: { long: "first" } });
    const { id } = made.data;
    const put = await send(`/texts/${id}`, { method: "PUT", json: { long: "second" } });
    assertEquals([put.status, put.data.id, put.data.long], [200, id, "second"]);
    const row = z.object({ id: z.int() });
    const sendTo = open([resource("texts", { row, write: row.partial() })]);
    const same = await sendTo(`/texts/${id}`, { method: "PUT", json: {} });
    assertEquals([same.status, same.data.id], [200, id]);
  });

  it("answers a PUT of a row of which Postgres alone writes each column", async () => {
    await database.query(
      "CREATE TABLE tickets (id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY); INSERT INTO tickets DEFAULT VALUES",
    );
    const row = z.object({ id: z.int() });
    const sendTo = open([resource("tickets", { row, write: z.object({}), filters: ["id"] })]);
    const tag = { "if-match": (await sendTo("/tickets/1")).headers.get("etag") ?? "" };
    for (const headers of [{}, tag]) {
      const { status, data } = await sendTo("/tickets/1", { method: "PUT", json: {}, headers });
      assertEquals([status, data], [200, { id: 1 }]);
    }
    const other = { method: "PUT", json: {}, headers: { "if-match": 'W/"other"' } };
    assertEquals((await sendTo("/tickets/1", other)).status, 412);
    assertEquals((await sendTo("/tickets/2", { method: "PUT", json: {} })).status, 404);
  });

  it("knows a row by its key letter for letter, also where the column takes others for equal", async () => {
    assertEquals((await send("/codes/ab,Word")).data.uses as unknown, 1);
    for (const other of ["ab,word", "ab%20,Word"]) {
      assertEquals((await send(`/codes/${other}`)).status, 404, other);
      for (const headers of [{}, { "if-match": 'W/"other"' }]) {
        const patch = { method: "PATCH", json: { uses: 2 }, headers };
        assertEquals((await send(`/codes/${other}`, patch)).status, 404, other);
        assertEquals((await send(`/codes/${other}`, { method: "DELETE", headers })).status, 404);
      }
    }
    assertEquals((await send("/codes/ab,Word")).data.uses as unknown, 1);
    await send("/codes/ab,Word", { method: "PATCH", json: { uses: 3 } });
    assertEquals((await send("/codes/ab,Word")).data.uses as unknown, 3);
  });

  it("answers 400 to a body of too many levels, and takes one of as many as it says", async () => {
    for (const [levels, status] of [[499, 201], [500, 400], [20_000, 400]] as const) {
      const made = await send("/texts", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: `{"doc":${"[".repeat(levels)}${"]".repeat(levels)}}`,
      });
      assertEquals(made.status, status, made.text.slice(0, 200));
    }
    assertEquals(errors, []);
  });

  it("tells what Postgres refuses as what it is", async () => {
    const incompressible = crypto.getRandomValues(new Uint8Array(20_000)).toHex();
    const order = (change: object) => ({ customer_id: 1, cents: 1, ...change });
    const refusals: [string, RequestInit & { json?: unknown }, number, string][] = [
      ["/orders", { method: "POST", json: order({ code: "c1" }) }, 409, "code"],
      ["/orders", { method: "POST", json: order({ customer_id: 404 }) }, 409, "customer_id"],
      ["/orders/1", { method: "PATCH", json: { cents: -1 } }, 422, "cents"],
      ["/orders/1", { method: "PATCH", json: { code: "too long" } }, 422, ""],
      ["/orders/1", { method: "PATCH", json: { customer_id: "x" } }, 422, ""],
      ["/texts", { method: "POST", json: { query: "a & & b" } }, 422, ""],
      ["/texts", { method: "POST", json: { long: incompressible } }, 422, ""],
      ["/texts", { method: "POST", json: { of: "" } }, 422, ""],
      ["/texts", { method: "POST", json: { of: "nowhere" } }, 422, ""],
      ["/ruled", { method: "POST", json: { word: "raised" } }, 422, ""],
      ["/ruled", { method: "POST", json: { word: "dropped" } }, 422, ""],
      ["/ruled/1", { method: "PATCH", json: { word: "dropped" } }, 422, ""],
      ["/ruled/1", { method: "DELETE" }, 422, ""],
    ];
    await send("/ruled", { method: "POST", json: { word: "kept" } });
    const tag = { "if-match": (await send("/ruled/1")).headers.get("etag") ?? "" };
    refusals.push(["/ruled/1", { method: "DELETE", headers: tag }, 422, ""]);
    for (const [path, init, status, column] of refusals) {
      const answer = await send(path, init);
      assertEquals(
        [answer.status, JSON.parse(answer.text).issues[0].path],
        [status, column],
        answer.text,
      );
    }
    await database.query("ALTER TABLE tags ALTER uses SET NOT NULL");
    const nullable = open([
      resource("customers", {
        row: z.object({ id: z.int() }),
        write: z.object({ id: z.int(), name: z.string() }),
      }),
      resource("tags", {
        row: z.object({ name: z.string() }),
        write: z.object({ uses: z.null() }),
      }),
    ]);
    const required = await nullable("/tags/plain", { method: "PATCH", json: { uses: null } });
    assertEquals([required.status, JSON.parse(required.text).issues[0]], [422, {
      path: "uses",
      message: "Required",
    }]);
    assertEquals((await nullable("/customers/1", { method: "DELETE" })).status, 409);
    assertEquals(errors, []);
  });

  it("names the column that a row of a partition conflicts in", async () => {
    await database.query(`
      CREATE TABLE parts (id INTEGER, kind TEXT, PRIMARY KEY (kind, id)) PARTITION BY LIST (kind);
      CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a')`);
    const row = z.object({ id: z.int(), kind: z.string() });
    const ask = open([resource("parts", { row, write: row })]);
    const create = () => ask("/parts", { method: "POST", json: { id: 1, kind: "a" } });
    assertEquals((await create()).status, 201);
    const { status, text } = await create();
    const paths = JSON.parse(text).issues.map(({ path }: { path: string }) => path);
    assertEquals([status, paths], [409, ["kind", "id"]]);
  });

  it("tells what a policy refuses, or hides from writes, as a rule of the table", async () => {
    const role = `owner_${crypto.randomUUID().slice(0, 8)}`;
    await database.query(`CREATE ROLE ${role} LOGIN`);
    const url = new URL(testDatabase.url);
    url.username = role;
    const all = database;
    const own = database = connect({ url: url.href, poolMax: 1 });
    const api = open(declared);
    database = all;
    try {
      await database.query(`
        CREATE POLICY reading ON tags FOR SELECT USING (true);
        CREATE POLICY writing ON tags USING (uses > 0) WITH CHECK (uses < 9);
        ALTER TABLE tags ENABLE ROW LEVEL SECURITY;
        GRANT SELECT, INSERT, UPDATE, DELETE ON tags TO ${role};
        INSERT INTO tags VALUES ('hidden', 0)`);
      const hidden = "/tags/hidden";
      const refused = { method: "POST", json: { name: "new", uses: 9 } };
      for (
        const [path, init] of [
          ["/tags", refused],
          [hidden, { method: "PATCH", json: { uses: 1 } }],
          [hidden, { method: "DELETE" }],
        ] as const
      ) assertEquals((await api(path, init)).status, 422);
      assertEquals((await api(hidden)).status, 200);
    } finally {
      await own.close();
      await database.query(`
        ALTER TABLE tags DISABLE ROW LEVEL SECURITY; DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
    assertEquals(errors, []);
  });

  it("answers 503 with Retry-After to what passes by itself, and writes nothing", async () => {
    const passing = connect({ url: testDatabase.url, poolMax: 2 });
    try {
      await passing.query(`ALTER DATABASE ${testDatabase.name} SET lock_timeout = '100ms'`);
      const impatient = connect({ url: testDatabase.url });
      const before = database;
      database = impatient;
      const api = open(declared);
      database = before;
      await before.transaction(async (transaction) => {
        await transaction.query("UPDATE orders SET cents = 1 WHERE id = 1");
        const { status, headers } = await api("/orders/1", { method: "PATCH", json: { cents: 2 } });
        assertEquals([status, headers.get("retry-after")], [503, "1"]);
      });
      await impatient.close();
    } finally {
      await passing.close();
      errors = [];
    }
  });

  it("writes on the condition of a tag, decided in the statement itself", async () => {
    const tagOf = async () => (await send("/orders/2")).headers.get("etag") ?? "";
    const patch = (tag: string, cents: number) =>
      send("/orders/2", { method: "PATCH", json: { cents }, headers: { "if-match": tag } });
    const tag = await tagOf();
    assertEquals((await patch('W/"other"', 1)).status, 412);
    assertEquals((await patch('"other", "more"', 1)).status, 412);
    assertEquals((await patch("no tag", 1)).status, 412);
    assertEquals((await patch(tag, 20)).status, 200);
    assertEquals((await patch(tag, 21)).status, 412);
    assertEquals((await patch((await tagOf()).replace("W/", ""), 22)).status, 200);
    assertEquals((await patch("*", 23)).status, 200);
    const current = await tagOf();
    const editors = await Promise.all([31, 32, 33, 34, 35].map((cents) => patch(current, cents)));
    assertEquals(editors.map(({ status }) => status).sort(), [200, 412, 412, 412, 412]);
    const gone = { method: "DELETE", headers: { "if-match": current } };
    assertEquals((await send("/orders/2", gone)).status, 412);
    assertEquals((await send("/orders/404", gone)).status, 404);
  });

  it("writes only over content that If-None-Match does not name", async () => {
    const tag = (await send("/orders/3")).headers.get("etag") ?? "";
    const patch = (headers: Record<string, string>, cents: number) =>
      send("/orders/3", { method: "PATCH", json: { cents }, headers });
    for (const excluded of ["*", tag, `"other", ${tag}`]) {
      assertEquals((await patch({ "if-none-match": excluded }, 1)).status, 412, excluded);
      const both = { "if-match": tag, "if-none-match": excluded };
      assertEquals((await patch(both, 1)).status, 412, excluded);
    }
    assertEquals((await send("/orders/3")).headers.get("etag"), tag);
    assertEquals((await patch({ "if-none-match": 'W/"other"' }, 2)).status, 200);
    const kept = { method: "DELETE", headers: { "if-none-match": "*" } };
    assertEquals((await send("/orders/3", kept)).status, 412);
    assertEquals((await send("/orders/404", kept)).status, 404);
  });

  it("refuses a declaration that cannot work, and says what to write", async () => {
    const check = (declaration: Resource) =>
      Promise.all(openTables([declaration], database).map((table) => table.check()));
    const row = z.object({ id: z.int() });
    const name = z.object({ name: z.string() });
    for (
      const [declaration, says] of [
        [resource("nowhere", { row }), /nowhere: that table does not exist/],
        [
          resource("orders", { row: row.extend({ nope: z.int() }) }),
          /no column nope.*id, customer_id/,
        ],
        [resource("orders", { row, write: name }), /no column name: take it out of `write`/],
        [resource("keyless", { row: name }), /ADD PRIMARY KEY/],
        [resource("tags", { row: z.object({ uses: z.int() }) }), /its key name is not in `row`/],
        [resource("orders", { row, filters: ["state"] }), /the filter state is not in `row`/],
        [
          resource("odd", { row: z.object({ id: z.int(), doc: anything }), filters: ["doc"] }),
          /the filter doc is of type jsonb/,
        ],
      ] as const
    ) {
      const error = await assertRejects(() => check(declaration), DeclarationError);
      assertMatch(error.message, says);
      assert(!error.message.includes("\n"));
    }
    for (
      const [taken, says] of [
        ["docs", "write public.docs"],
        ["a b", "write a name of"],
        ["a.b.c", "write a name of"],
      ] as const
    ) {
      const checking = async () => await check(resource(taken, { row }));
      await assertRejects(checking, DeclarationError, says);
    }
    const body = z.object({}).meta({ id: "UserBody" });
    const Point = () => z.object({ x: z.int() }).meta({ id: "Point" });
    const withPoint = () => row.extend({ of: z.array(Point()).nullable() });
    const inBoth = "another Point: give one of them another id, or use the same schema for both";
    for (
      const [others, says] of [
        [[resource("failures", { row })], "another Failure: write .meta"],
        [[resource("a", { row: row.meta({ id: "Ready" }) })], "another Ready: write .meta"],
        [[resource("orders", { row }), resource("order_answers", { row })], "another OrderAnswer"],
        [[resource("order_lists", { row }), resource("orders", { row })], "another OrderList"],
        [
          [resource("users", { row, write: z.object({}) }), resource("a", { row, write: body })],
          'another UserBody: write .meta({ id: "…" }) on its `write`',
        ],
        ...[-1, NaN, "60s", null].map((ttl) =>
          [
            [resource("as", { row, ...{ listTtlMs: ttl as number } })],
            "its `listTtlMs` is no number of at least 0",
          ] as const
        ),
        [
          [resource("as", { row, ...{ filter: ["a"] } })],
          "`filter` is no option: write one of row, write, filters, ttlMs, listTtlMs",
        ],
        [[resource("as", { row: withPoint() }), resource("bs", { row: withPoint() })], inBoth],
        [
          [
            resource("as", { row, write: withPoint() }),
            resource("bs", { row, write: withPoint() }),
          ],
          inBoth,
        ],
        [[resource("as", { row: row.extend({ ...withPoint().shape, at: Point() }) })], inBoth],
        [[resource("points", { row: withPoint() })], "another Point: write .meta"],
        [
          [resource("as", { row, write: z.object({ a: z.int() }).refine(({ a }) => a > 0) })],
          "make it a CHECK of the table",
        ],
        [[resource("as", { row: row.extend({ at: z.string().meta({ id: "Alive" }) }) })], "Alive"],
        [[resource("as", { row: row.meta({ id: "a b" }) })], "a b is no name of a schema"],
      ] as const
    ) {
      assertThrows(() => openTables(others, database), DeclarationError, says);
    }
    const shared = withPoint();
    const write = withPoint().omit({ id: true });
    openTables([resource("as", { row: shared, write }), resource("bs", { row: shared })], database);
    await database.query("CREATE SCHEMA app; CREATE TABLE app.words (id INTEGER PRIMARY KEY)");
    await using inApp = connect({ url: `${testDatabase.url}?schema=app` });
    const [unqualified] = openTables([resource("words", { row })], inApp);
    await assertRejects(
      async () => await unqualified?.check(),
      DeclarationError,
      "write app.words", // or it would not have the names that its triggers record
    );
    const [qualified] = openTables([resource("app.words", { row })], inApp);
    await qualified?.check();
    const [instead] = openTables([resource("public.docs", { row })], database);
    await instead?.check(); // as the refusal of `docs` says
    const [table] = openTables([resource("orders", { row: Order, filters: ["state"] })], database);
    assertEquals((await table?.rows.shape())?.advice.map(({ statement }) => statement), [
      `SELECT lookaside.watch('"orders"')`,
      'CREATE INDEX ON "orders" ("state")',
    ]);
  });

  it("advises to watch a table as it is served, and keeps the columns that others watch", async () => {
    await installChanges(changesDatabase(database));
    const row = z.object({ user_id: z.int(), team: z.string(), role: z.string() });
    const watched = (rest: string) => `SELECT lookaside.watch('"memberships"'${rest})`;
    for (
      const [rest, advised] of [
        [", columns => '{role}', matter => '{}'", []],
        [", matter => '{}'", [watched("")]],
        [", key => '{team,user_id}', columns => '{role}'", [watched(", columns => '{role}'")]],
      ] as const
    ) {
      await database.query(watched(rest));
      const shapeOf = async () => {
        const [table] = openTables([resource("memberships", { row })], database);
        return (await table?.rows.shape())?.advice.map(({ statement }) => statement);
      };
      assertEquals(await shapeOf(), [...advised], rest);
      for (const statement of advised) await database.query(statement);
      assertEquals(await shapeOf(), []);
    }
  });

  it("advises the rights that a role lacks for its writes, which then work", async () => {
    const role = `writer_${crypto.randomUUID().slice(0, 8)}`;
    await database.query(`CREATE ROLE ${role} LOGIN`);
    const url = new URL(testDatabase.url);
    url.username = role;
    const own = connect({ url: url.href, poolMax: 1 });
    try {
      await database.query(`
        GRANT SELECT ON tags, orders TO ${role};
        SELECT lookaside.watch('app.words');
        SELECT lookaside.watch('tags');
        SELECT lookaside.admit('${role}')`);
      const adviceOn = async (...options: Parameters<typeof resource>) => {
        const [table] = openTables([resource(...options)], own);
        const advice = (await table?.rows.shape())?.advice ?? [];
        return advice.map(({ statement }) => statement).filter((each) => each.startsWith("GRANT"));
      };
      const tag = z.object({ name: z.string() });
      assertEquals(await adviceOn("tags", { row: tag }), []);
      assertEquals(await adviceOn("tags", { row: tag, write: tag }), [
        `GRANT INSERT, UPDATE, DELETE ON "tags" TO "${role}"`,
      ]);
      const statements = await adviceOn("orders", { row: Order, write: OrderBody });
      assertEquals(statements.length, 2);
      for (const statement of statements) await database.query(statement);
      assertEquals(await adviceOn("orders", { row: Order, write: OrderBody }), []);
      await own.query("INSERT INTO orders (customer_id) VALUES (1)");
      await database.query(`
        REVOKE ALL ON orders FROM ${role}; GRANT SELECT (id), UPDATE (cents) ON orders TO ${role}`);
      const [lacking = "", ...others] = await adviceOn("orders", {
        row: Order.pick({ id: true, cents: true }),
        write: OrderBody.pick({ cents: true, code: true }),
      });
      assertEquals(others, []);
      assertEquals(
        lacking,
        `GRANT SELECT ("cents"), INSERT, UPDATE ("code"), DELETE ON "orders" TO "${role}"`,
      );
    } finally {
      await own.close();
      await database.query(`DROP OWNED BY ${role}`);
      await database.query(`DROP ROLE ${role}`);
    }
  });

  it("tells that its role lacks a right, whose GRANT is logged, and works once it is given", async () => {
    const role = `reader_${crypto.randomUUID().slice(0, 8)}`;
    await database.query(`
      CREATE ROLE ${role} LOGIN; GRANT SELECT ON tags TO ${role}; SELECT lookaside.admit('${role}')`);
    const url = new URL(testDatabase.url);
    url.username = role;
    const all = database;
    await using own = connect({ url: url.href, poolMax: 1 });
    database = own;
    const tag = z.object({ name: z.string(), uses: z.int() });
    const ask = open([resource("tags", { row: tag, write: tag })]);
    database = all;
    const granted = async (right: string, work: () => Promise<Answer>, refused: number) => {
      const { status, headers } = await work();
      assertEquals([status, headers.get("retry-after")], [refused, refused === 503 ? "1" : null]);
      const statement = `GRANT ${right} ON "tags" TO "${role}"`;
      assertEquals(errors.map((error) => /GRANT .*"/.exec(`${error}`)?.[0]), [statement]);
      errors = [];
      await database.query(statement);
      assert((await work()).status < 300);
      assertEquals(errors, []);
    };
    try {
      const write = (method: string, path: string) => () =>
        ask(path, { method, json: { name: "right", uses: 1 } });
      await granted("INSERT, UPDATE, DELETE", write("POST", "/tags"), 403);
      await database.query(
        `REVOKE UPDATE ON tags FROM ${role}; GRANT UPDATE (name) ON tags TO ${role}`,
      );
      await granted('UPDATE ("uses")', write("PUT", "/tags/right"), 403);
      await database.query(`REVOKE DELETE ON tags FROM ${role}`);
      await granted("DELETE", write("DELETE", "/tags/right"), 403);
      await database.query(
        `REVOKE SELECT ON tags FROM ${role}; GRANT SELECT (name) ON tags TO ${role}`,
      );
      await granted('SELECT ("uses")', () => ask("/tags?limit=3"), 503);
    } finally {
      await database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it("reads keys as the schema suggests only until Postgres can be asked", async () => {
    let isAway = true;
    const [table] = openTables(declared.slice(0, 1), {
      query: (text, values) =>
        isAway
          ? Promise.reject(new DatabaseUnavailableError("Cannot use Postgres now"))
          : database.query(text, values),
    });
    assertEquals((await table?.known())?.keys.read("9007199254740993"), undefined);
    isAway = false;
    await eventually(() => assert(table?.inputs?.keys.read("9007199254740993") !== undefined));
  });

  it("describes each of them", async () => {
    const { text } = await send("/openapi.json");
    const { paths, components } = JSON.parse(text);
    assertEquals(Object.keys(paths["/orders"]), ["get", "post"]);
    assertEquals(Object.keys(paths["/customers/{id}"]), ["get"]);
    const names = paths["/orders"].get.parameters.map(({ name }: { name: string }) => name);
    assertEquals(names, ["page", "limit", "after", "ids", "customer_id", "state", "If-None-Match"]);
    assertMatch(JSON.stringify(components.schemas.Order.properties.customer_id), /2\^53 - 1/);
    assertEquals(components.schemas.OrderChanges.minProperties, 1);
    const page = (await send("/docs")).text;
    for (const [, path = ""] of page.matchAll(/<pre>curl http:\/\/[^/]+(\/\w+\/[^<]+)<\/pre>/g)) {
      const { status } = await send(path);
      assert(status === 200 || status === 404, `${path}: ${status}`);
    }
  });

  it("describes columns for whose schemas OpenAPI has no word", async () => {
    const row = z.object({
      id: z.int(),
      doc: z.custom(),
      list: z.set(z.number()),
      at: z.string().transform(Date.parse),
      day: z.instanceof(Date),
      amount: z.nan(),
      big: z.literal(undefined),
      flag: z.void(),
    });
    const ask = open([resource("odd", { row, write: row.omit({ id: true }) })]);
    const { components } = JSON.parse((await ask("/openapi.json")).text);
    for (const name of Object.keys(row.omit({ id: true }).shape)) {
      assertEquals(components.schemas.Odd.properties[name], {}, name);
    }
    assertEquals((await ask("/docs")).status, 200);
  });

  it("describes parameters so that what they allow is accepted, and nothing else", async () => {
    const uid = "0b9e4c5e-5f3a-4c1e-9b1a-111111111111";
    const row = z.object({
      id: z.int(),
      small: z.int(),
      flag: z.boolean(),
      uid: z.uuid(),
      word: z.string(),
    });
    const filters = ["small", "flag", "uid", "word"];
    const kinds = open([resource("kinds", { row, filters })]);
    const cases: Readonly<Record<string, readonly [good: unknown, bad: unknown]>> = {
      "/kinds?flag": [true, "yes"],
      "/kinds?uid": [uid, uid.toUpperCase()],
      "/kinds?word": ["x".repeat(1_000), "x".repeat(1_001)],
      "/kinds?small": [-5, "5.0"],
      "/customers?ids": [["1", "9007199254740993"], ["x"]],
      "/tokens?ids": [[uid, uid], [uid.toUpperCase()]],
      "/memberships?ids": ["7,red;8,red", ["7,red", "8,red"]],
      "/memberships?after": ["7,red", 7],
    };
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    for (const [parameter, [good, bad]] of Object.entries(cases)) {
      const [path = "", name = ""] = parameter.split("?");
      const ask = path === "/kinds" ? kinds : send;
      const { paths } = JSON.parse((await ask("/openapi.json")).text);
      const { schema, explode } = paths[path].get.parameters.find(
        (each: { name: string }) => each.name === name,
      );
      const validate = ajv.compile(schema);
      assertEquals([validate(good), validate(bad)], [true, false], parameter);
      assertEquals(explode, Array.isArray(good) ? false : undefined, parameter);
      for (const [value, status] of [[good, 200], [bad, 400]] as const) {
        const text = [value].flat().map((each) => encodeURIComponent(String(each))).join(",");
        assertEquals((await ask(`${parameter}=${text}`)).status, status, `${parameter}=${text}`);
      }
    }
  });

  it("describes values of every type as they are answered, and shows examples that it accepts", async () => {
    const write = z.object({
      big: z.union([z.int(), z.string()]).nullable(),
      small: z.int().min(5),
      flag: z.boolean().nullable(),
      state: z.enum(["open", "paid"]).nullable(),
      list: z.array(z.int()).min(1).nullable(),
      doc: z.json(),
      uid: z.uuid().nullable(),
      day: z.iso.date().nullable(),
      at: z.iso.datetime().nullable(),
      word: z.string(),
    });
    const row = write.extend({
      id: z.bigint(),
      big: z.int().nullable(),
      list: z.array(z.int()).nullable(),
      amount: z.number().min(0).nullable(),
      real8: z.number().nullable(),
    });
    const ask = open([resource("kinds", { row, write })]);
    const { paths, components } = JSON.parse((await ask("/openapi.json")).text);
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    const assertValid = (schema: object, value: unknown) => {
      const validate = ajv.compile({ ...schema, components });
      assert(validate(value), `${JSON.stringify(validate.errors)} in ${JSON.stringify(value)}`);
    };
    const kind = { $ref: "#/components/schemas/Kind" };
    for (const id of ["1", "2", "3", "4", "5", "9007199254740993"]) {
      const { data } = await ask(`/kinds/${id}`);
      assertValid(kind, { ...data, word: "" });
      for (const wrong of [{ amount: "1.5" }, { real8: "x" }, { day: "x" }, { at: "2026-01-02" }]) {
        assertFalse(ajv.compile({ ...kind, components })({ ...data, word: "", ...wrong }));
      }
    }
    for (const { schema } of paths["/kinds/{id}"].get.parameters) {
      if (schema.example !== undefined) assertValid(schema, schema.example);
    }
    const page = (await ask("/docs")).text.replaceAll("&quot;", '"').replaceAll("&#39;", "'");
    for (const method of ["PUT", "PATCH"]) {
      const [, body = ""] = new RegExp(`-X ${method} .*-d '(.*)' http.*/kinds/1<`).exec(page) ?? [];
      const { status, text } = await ask("/kinds/1", { method, json: JSON.parse(body) });
      assertEquals(status, 200, `${body}: ${text}`);
    }
  });
});
