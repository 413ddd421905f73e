import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheServer, type TableUse, type WatchedTable } from "../../cache/mod.ts";
import { NO_CHANGES } from "../../cache/changes.ts";
import { applyChanges, type Change } from "../../changes/apply.ts";
import { table } from "../../changes/table.ts";

interface Order {
  readonly id: number;
  readonly customer_id: number | null;
  readonly status: string;
}

const known: WatchedTable = {
  columns: ["customer_id", "price"],
  types: new Map([
    ...[["id", "integer"], ["customer_id", "integer"], ["status", "text"]] as const,
    ["price", "other"] as const,
  ]),
};

/** A cache over a source that knows `known`, or does not, and that a test tells what changed. */
function openCache(
  watched: (use: TableUse) => Promise<WatchedTable> = () => Promise.resolve(known),
) {
  const uses: TableUse[] = [];
  let server: CacheServer | undefined;
  const cache = new Cache({
    changes: {
      attach: ({ servers }) => {
        [server] = servers;
        return {
          ...NO_CHANGES,
          watched: (use) => {
            uses.push(use);
            return watched(use);
          },
        };
      },
    },
  });
  const change = async (change: Partial<Change>) => {
    assert(server !== undefined);
    await applyChanges(server, [{ table: "orders", keys: ["42"], values: [], ...change }]);
  };
  return { cache, uses, change };
}

let loads = 0;
const load = <T>(value: T) => () => {
  loads++;
  return Promise.resolve(value);
};

/** How many of these reads have to load. */
async function loadsOf(...reads: (() => Promise<unknown>)[]): Promise<number> {
  const before = loads;
  for (const read of reads) await read();
  return loads - before;
}

describe("table()", () => {
  it("row() answers from the cache until the row changes", async () => {
    const { cache, change } = openCache();
    const orders = table<Order>(cache, "orders");
    const read = (key: number) => () =>
      orders.row(key, load({ id: key, customer_id: 7, status: "" }));
    assertEquals((await read(42)()).value()?.id, 42);
    assertEquals(await loadsOf(read(42), read(43)), 1);
    await change({ keys: ["42"] });
    assertEquals(await loadsOf(read(42), read(43)), 1);
    await change({ keys: undefined });
    assertEquals(await loadsOf(read(42), read(43)), 2);
    await cache.close();
  });

  it("watched() waits until its changes are told, or rejects", async () => {
    const watching = Promise.withResolvers<WatchedTable>();
    const { cache } = openCache(() => watching.promise);
    const orders = table<Order>(cache, "orders");
    let waited = false;
    const watched = orders.watched().finally(() => waited = true);
    await Promise.resolve();
    assertEquals(waited, false);
    watching.resolve(known);
    assertEquals((await watched).tags({ customer_id: 7 }), ["orders:customer_id=7", "orders:*"]);
    await cache.close();
    const refused = openCache(() => Promise.reject(new TypeError("not watched")));
    await assertRejects(() => table(refused.cache, "orders").watched(), TypeError, "not watched");
    await refused.cache.close();
  });

  it("answers values in the form that they are to have", async () => {
    const { cache } = openCache();
    const orders = table<Order>(cache, "orders");
    const codec = {
      stringify: (at: Date) => `${at.getTime()}`,
      parse: (text: string) => new Date(Number(text)),
    };
    const at = () => orders.any("first", load(new Date(5)), { codec });
    const values: (Date | undefined)[] = [(await at()).value(), (await at()).value()];
    assertEquals(values, [new Date(5), new Date(5)]);
    await cache.close();
  });

  it("where() answers from the cache until a row enters, leaves or changes in it", async () => {
    const { cache, change } = openCache();
    const orders = table<Order>(cache, "orders");
    const read = (customer_id: number | null, as?: string) => () =>
      orders.where({ customer_id }, load([]), as === undefined ? {} : { as });
    await loadsOf(read(7), read(8), read(9), read(null), read(7, "count"));
    const all = [read(7), read(8), read(9), read(null), read(7, "count")];
    assertEquals(await loadsOf(...all), 0);
    await change({ values: ["customer_id=7", "customer_id=8"] });
    assertEquals(await loadsOf(...all), 3);
    await change({ values: ["customer_id"] });
    assertEquals(await loadsOf(...all), 1);
    await change({ table: "customers", values: ["customer_id=7"] });
    assertEquals(await loadsOf(...all), 0);
    await cache.close();
  });

  it("where() has one entry for a column that is not given and one that is undefined", async () => {
    const { cache } = openCache();
    const orders = table<Order>(cache, "orders", { columns: ["customer_id"] });
    const read = (filter: Record<string, unknown>) => () => orders.where(filter, load([]));
    const filters = [{}, { status: undefined }].map((each) => ({ customer_id: 7, ...each }));
    assertEquals(await loadsOf(...filters.map(read)), 1);
    assertEquals(await loadsOf(read({ customer_id: 7, status: "undefined" })), 1);
    await cache.close();
  });

  it("refuses values whose text others have too", async () => {
    const { cache } = openCache(() =>
      Promise.resolve({ columns: [], types: new Map([["id", "text"], ["on", "date"]]) })
    );
    const things = table(cache, "things");
    const values: unknown[] = [null, undefined, { a: 1 }, new Date(0), new Uint8Array(1), [["a"]]];
    for (const value of values) {
      await assertRejects(() => things.row(value as string, load({})), TypeError, "Cannot name");
      assertThrows(() => things.tags({ id: [value] as never }), TypeError, "Cannot name");
    }
    const days = table(cache, "days", { key: ["on"] });
    await days.row("12026-01-02", load({}));
    await assertRejects(
      () => days.row("02026-01-02", load({})),
      TypeError,
      "prints date otherwise",
    );
    await cache.close();
  });

  it("refuses names and options that would be taken apart letter by letter, or fail later", async () => {
    await using opened = openCache().cache;
    const refused: Readonly<Record<string, readonly unknown[]>> = {
      "Cannot use undefined as a table: pass its name": [],
      "Cannot use object as a table": [["a", "b", "c"]],
      "Cannot use these options of orders": ["orders", null],
      "Cannot use these options of lists": ["lists", ["id"]],
      "Cannot use key of orders: it must be a list of columns": ["orders", { key: "id" }],
      "Cannot use columns of orders": ["orders", { columns: "customer_id" }],
      "Cannot use columns of my.orders": ["my.orders", { columns: [5] }],
      "Cannot use the option colums": ["orders", { colums: ["customer_id"] }],
      "Cannot use refresh: it must be of type boolean": ["orders", { refresh: 1 }],
    };
    for (const [message, [name, options]] of Object.entries(refused)) {
      assertThrows(() => table(opened, name as never, options as never), TypeError, message);
    }
    const text: object = { ttlMs: "60000" };
    assertThrows(() => table(opened, "orders", text), RangeError, 'Cannot use ttlMs "60000"');
  });

  it("refuses rows that are none", async () => {
    await using opened = openCache().cache;
    const orders = table<Order>(opened, "orders");
    for (const none of [undefined, null, NaN, 42, "42", [42], [{ id: 42 }], () => ({ id: 42 })]) {
      const row = none as never;
      const refused = /^Cannot use .+ as a row of orders: pass its columns, such as \{ id: … \}$/;
      assertMatch((await assertRejects(() => orders.invalidate(row), TypeError)).message, refused);
      assertMatch(
        (await assertRejects(() => orders.where(row, load([])), TypeError)).message,
        refused,
      );
      assertMatch(assertThrows(() => orders.tags(row), TypeError).message, refused);
    }
  });

  it("where() is told by the first column that is watched, whichever others there are", async () => {
    const { cache, change } = openCache();
    const orders = table<Order>(cache, "orders", { columns: ["customer_id"] });
    const read = () => orders.where({ status: "open", customer_id: 7 }, load([]));
    await orders.row(1, load({})); // from here on it is known what is watched
    await loadsOf(read);
    await change({ values: ["status=open"] });
    assertEquals(await loadsOf(read), 0);
    await change({ values: ["customer_id=7"] });
    assertEquals(await loadsOf(read), 1);
    await cache.close();
  });

  it("any() answers from the cache until any row changes", async () => {
    const { cache, change } = openCache();
    const orders = table<Order>(cache, "orders");
    const read = (name: string) => () => orders.any(name, load([]));
    await loadsOf(read("top sellers"), read("worst sellers"));
    assertEquals(await loadsOf(read("top sellers"), read("worst sellers")), 0);
    await change({ keys: ["1"] });
    assertEquals(await loadsOf(read("top sellers"), read("worst sellers")), 2);
    await cache.close();
  });

  it("tags() ends an entry of several tables when a row of either changes", async () => {
    const { cache, change } = openCache();
    const orders = table<Order>(cache, "orders");
    const customers = table(cache, "customers");
    const tags = [...orders.tags({ id: 42 }), ...customers.tags({ id: 7 })];
    assertEquals(tags, ["orders:42", "orders:*", "customers:7", "customers:*"]);
    const read = () => cache.getOrLoad("invoice:9", load({}), { tags });
    await loadsOf(read);
    await change({ keys: ["41"] });
    assertEquals(await loadsOf(read), 0);
    await change({ keys: ["42"] });
    assertEquals(await loadsOf(read), 1);
    await change({ table: "customers", keys: ["7"] });
    assertEquals(await loadsOf(read), 1);
    assertEquals(orders.tags(), ["orders:any", "orders:*"]);
    assertEquals(orders.tags({ customer_id: null }), ["orders:customer_id", "orders:*"]);
    await cache.close();
  });

  it("takes composite keys in their order, and has rows of other numbers of values refused", async () => {
    const { cache } = openCache(() =>
      Promise.resolve({ columns: [], types: new Map([["org_id", "integer"], ["name", "text"]]) })
    );
    const members = table(cache, "sales.members", { key: ["org_id", "name"] });
    await members.row([7n, "Ada"], load({}));
    assert(await cache.has("sales.members:7,Ada"));
    assertEquals(members.tags({ name: "Ada", org_id: 7 })[0], "sales.members:7,Ada");
    await assertRejects(() => members.row(7, load({})), TypeError, "its key has 2");
    await assertRejects(() => members.row([1, "a", 2], load({})), TypeError, "its key has 2");
    await cache.close();
  });

  it("invalidate() ends what the rows of a write were in, before and after", async () => {
    const { cache } = openCache();
    const orders = table<Order>(cache, "orders", { columns: ["customer_id"] });
    const reads = [
      () => orders.row(42, load({})),
      ...[7, 8, 9].map((customer_id) => () => orders.where({ customer_id }, load([]))),
    ];
    await loadsOf(...reads);
    await loadsOf(...reads); // what was stored before the table was known has more tags
    const price = { price: 1 };
    assertEquals(
      await orders.invalidate(
        { id: 42, customer_id: 7, ...price },
        { id: 42, customer_id: 8, ...price },
      ),
      "applied",
    );
    assertEquals(await loadsOf(...reads), 3);
    assertEquals(await orders.invalidate(), "applied");
    assertEquals(await loadsOf(...reads), 4);
    await assertRejects(() => orders.invalidate({ id: 42 }), TypeError, "it lacks customer_id");
    await assertRejects(
      () => orders.invalidate({ customer_id: 1, ...price }),
      TypeError,
      "it lacks id",
    );
    await cache.close();
  });

  it("invalidate() asks for no column that only other programs have watched", async () => {
    const { cache } = openCache();
    const [orders, elsewhere] = [table<Order>(cache, "orders"), table<Order>(cache, "orders")];
    const row = () => orders.row(42, load({}));
    await loadsOf(row);
    assertEquals(await orders.invalidate({ id: 42 }), "applied");
    assertEquals(await loadsOf(row), 1);
    const theirs = () => cache.getOrLoad("theirs", load([]), { tags: ["orders:customer_id=7"] });
    await loadsOf(theirs);
    const written = { id: 42, customer_id: 7, price: new Date() };
    await orders.invalidate(written);
    assertEquals(await loadsOf(theirs), 1, "a list by a column that is given");
    await elsewhere.where({ customer_id: 7 }, load([]));
    await assertRejects(() => orders.invalidate({ id: 42 }), TypeError, "it lacks customer_id");
    await cache.close();
  });

  it("loads nothing that it could not be told of, and says why", async () => {
    const { cache } = openCache(() => Promise.reject(new TypeError("Cannot use orders: run this")));
    const orders = table<Order>(cache, "orders");
    for (
      const read of [
        () => orders.row(42, load({})),
        () => orders.where({ customer_id: 7 }, load([])),
        () => orders.any("top sellers", load([])),
      ]
    ) {
      assertEquals(
        await loadsOf(() => assertRejects(read, TypeError, "run this")),
        0,
      );
    }
    assertThrows(() => orders.tags({ id: 42 }), TypeError, "run this");
    await cache.close();
  });

  it("goes on answering what is cached while Postgres cannot be asked", async () => {
    let down = false;
    const { cache } = openCache(() =>
      down ? Promise.reject(new Error("Postgres is down")) : Promise.resolve(known)
    );
    await table<Order>(cache, "orders").row(42, load({ id: 42 }));
    down = true;
    const orders = table<Order>(cache, "orders");
    assertEquals(await loadsOf(() => orders.row(42, load({}))), 0);
    await assertRejects(() => orders.row(43, load({})), Error, "Postgres is down");
    down = false;
    assertEquals(await loadsOf(() => orders.row(43, load({}))), 1);
    await cache.close();
  });

  it("has a column watched when lists are first cached by it, and others go on without", async () => {
    const { cache, uses } = openCache(({ columns }) =>
      columns.includes("nonsense")
        ? Promise.reject(new TypeError("there is no nonsense"))
        : Promise.resolve(known)
    );
    const orders = table<Order & { readonly nonsense: string }>(cache, "orders");
    await orders.where({ customer_id: 7, status: "open" }, load([]));
    assertEquals(uses.map(({ columns }) => columns), [[], ["customer_id"]]);
    await assertRejects(
      () => orders.where({ nonsense: "a" }, load([])),
      TypeError,
      "there is no such column",
    );
    await assertRejects(
      () => orders.where({ customer_id: 8, nonsense: "a" }, load([])),
      TypeError,
      "there is no such column",
    );
    await orders.where({ customer_id: 8 }, load([]));
    assertThrows(() => orders.tags({ nonsense: "a" }), TypeError, "there is no such column");
    const other = table<{ readonly nonsense: string }>(cache, "orders", { columns: ["nonsense"] });
    await assertRejects(() => other.row(43, load({})), TypeError, "there is no nonsense");
    assertThrows(() => other.tags({ nonsense: "a" }), TypeError, "there is no nonsense");
    await cache.close();
  });

  it("refuses values in another text than Postgres has for them", async () => {
    const types = new Map(Object.entries({
      n: "integer",
      u: "uuid",
      b: "boolean",
      d: "date",
      t: "text",
      c: "char",
      o: "other",
    }));
    const { cache } = openCache(() => Promise.resolve({ columns: [...types.keys()], types }));
    const things = table(cache, "things", { key: ["n"], columns: [...types.keys()] });
    await things.any("", load(1)).catch(() => undefined);
    await things.row(1, load({}));
    const uuid = "0123abcd-0000-4000-8000-00000000000f";
    const good = {
      n: [7, -7n, "7"],
      u: [uuid],
      b: [true, "false"],
      d: ["2026-11-26"],
      t: ["", "É"],
    };
    for (const [column, values] of Object.entries(good)) {
      for (const value of values) await things.where({ [column]: value, o: null }, load([]));
    }
    const bad = {
      n: ["007", "7.0", "+7"],
      u: [uuid.toUpperCase()],
      b: ["t"],
      d: ["26.11.2026"],
      o: ["1"],
    };
    for (const [column, values] of Object.entries(bad)) {
      for (const value of values) {
        await assertRejects(() => things.where({ [column]: value }, load([])), TypeError);
      }
    }
    await assertRejects(
      () => things.row("01", load({})),
      TypeError,
      "Postgres prints integer otherwise",
    );
    await cache.close();
  });
});
