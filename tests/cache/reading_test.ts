import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { z } from "zod";
import {
  Cache,
  type CacheEvent,
  type CacheOptions,
  type Codec,
  type Jsonify,
  type Lookup,
  type Schema,
  SchemaError,
} from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { requiredEnv } from "../support/test_database.ts";

/** Compiles only if the two types are the same. */
function same<A, B>(_proof: [A] extends [B] ? ([B] extends [A] ? true : false) : false): void {}

interface Order {
  readonly at: Date;
  readonly total: bigint;
  readonly lines: ReadonlyMap<string, number>;
}

const order = (total = 1n): Order => ({ at: new Date(5), total, lines: new Map([["a", 1]]) });

/** A form that begins with a mark, so that JSON is none of its texts. */
const orders: Codec<Order> = {
  stringify: ({ at, total, lines }) => `o${JSON.stringify([at.getTime(), `${total}`, [...lines]])}`,
  parse(text) {
    if (!text.startsWith("o")) throw new Error(`no order: ${text}`);
    const [at, total, lines] = JSON.parse(text.slice(1));
    return { at: new Date(at), total: BigInt(total), lines: new Map(lines) };
  },
};

/** A cache, and what it tells of entries that cannot be read. */
function openCache(options: CacheOptions = {}) {
  const unreadable: CacheEvent[] = [];
  const onEvent = (event: CacheEvent) => {
    if (event.type === "unreadable") unreadable.push(event);
  };
  return { cache: new Cache({ ...options, onEvent }), unreadable };
}

const isOrder = z.object({ at: z.coerce.date(), total: z.coerce.bigint() });

describe("the option codec", () => {
  it("brings values back as what they were, by every way to read and to store", async () => {
    await using cache = new Cache();
    const codec = orders;
    const load = () => Promise.resolve(order());
    const loaded = await cache.getOrLoad("a", load, { codec });
    const held = await cache.getOrLoad("a", load, { codec });
    assertEquals([loaded.source, held.source], ["load", "memory"]);
    assertEquals([loaded.value(), held.value()], [order(), order()]);
    assertEquals((await cache.get("a", { codec }))?.value(), order());
    const many = await cache.getOrLoadMany(
      ["a", "b"],
      (keys) => Promise.resolve(new Map(keys.map((key) => [key, order()]))),
      { codec },
    );
    assertEquals(many.map((each) => each.value()), [order(), order()]);
    await cache.set("c", order(), { codec });
    const both = await cache.getMany(["a", "x"], { codec });
    assertEquals(both.map((each) => each?.value()), [order(), undefined]);
    const slot = await cache.begin<Order, Order>("c", { codec });
    assertEquals([slot.hit, slot.value()], [true, order()]);
    const empty = await cache.begin<Order, Order>("d", { codec });
    assert(await empty.fill(order()));
    assertEquals((await cache.get("d", { codec }))?.value(), order());
    const find = cache.wrap("order", (_id: number) => Promise.resolve(order()), { codec });
    assertEquals([await find(1), await find(1)], [order(), order()]);
    assertEquals(
      (await cache.getOrLoad("none", () => Promise.resolve(null), { codec })).value(),
      undefined,
    );
    same<typeof loaded, Lookup<Order>>(true);
    same<ReturnType<typeof find>, Promise<Order | undefined>>(true);
  });

  it("leaves the type of values without it as JSON brings them back", async () => {
    await using cache = new Cache();
    const plain = await cache.getOrLoad("a", () => Promise.resolve({ at: new Date(5) }));
    same<typeof plain, Lookup<Jsonify<{ at: Date }>>>(true);
    // @ts-expect-error A type that is expected of a read does not become the type of what is read.
    const wrong: Promise<Lookup<{ at: Date }>> = cache.getOrLoad(
      "a",
      () => Promise.resolve({ at: new Date(5) }),
    );
    assertEquals(JSON.stringify((await wrong).value()), '{"at":"1970-01-01T00:00:00.005Z"}');
  });

  it("gives each caller a value of its own", async () => {
    await using cache = new Cache();
    const read = () => cache.getOrLoad("a", () => Promise.resolve(order()), { codec: orders });
    const lookups = await Promise.all([read(), read()]);
    lookups.push(await read());
    const values = lookups.flatMap((each) => [each.value(), each.value()]);
    assertEquals(new Set(values).size, 6);
    assertEquals(values, values.map(() => order()));
  });

  it("loads once what it cannot read, for all who ask, and says so", async () => {
    const { cache, unreadable } = openCache();
    await using _ = cache;
    await cache.set("a", "plain JSON");
    let loads = 0;
    const load = ({ stale }: { stale?: unknown }) => {
      assertEquals(stale, undefined);
      return Promise.resolve(order(BigInt(++loads)));
    };
    const lookups = await Promise.all(
      Array.from({ length: 5 }, () => cache.getOrLoad("a", load, { codec: orders })),
    );
    assertEquals(lookups.map((each) => each.value()?.total), [1n, 1n, 1n, 1n, 1n]);
    assertEquals(unreadable.at(0), {
      type: "unreadable",
      key: "a",
      reason: 'no order: "plain JSON"',
    });
    assertEquals(cache.stats().unreadable, unreadable.length);
    const told = unreadable.length;
    assertEquals((await cache.getOrLoad("a", load, { codec: orders })).source, "memory");
    assertEquals(unreadable.length, told);
  });

  it("has get() and begin() find nothing where it cannot read", async () => {
    const { cache, unreadable } = openCache();
    await using _ = cache;
    await cache.set("a", "plain JSON");
    assertEquals(await cache.get("a", { codec: orders }), undefined);
    const slot = await cache.begin<Order, Order>("a", { codec: orders });
    assertEquals([slot.hit, slot.value()], [false, undefined]);
    assert(await slot.fill(order()));
    assertEquals((await cache.get("a", { codec: orders }))?.value(), order());
    assertEquals(unreadable.length, 2);
  });

  it("does the same across processes, and for what Redis holds", async () => {
    const url = requiredEnv("REDIS_URL");
    const prefix = `t${crypto.randomUUID().slice(0, 8)}`;
    const [one, other] = [openCache({ url, prefix }), openCache({ url, prefix })];
    await using _one = one.cache;
    await using _other = other.cache;
    const load = () => Promise.resolve(order(7n));
    await eventually(async () => {
      await one.cache.getOrLoad("a", load, { codec: orders });
      const found = await other.cache.get("a", { codec: orders });
      assert(found !== undefined && found.source !== "load");
      assertEquals(found.value(), order(7n));
    });
    await eventually(async () => {
      assertEquals(await one.cache.set("b", "plain JSON"), "applied");
      assertEquals((await other.cache.get<string>("b"))?.value(), "plain JSON");
    });
    const loaded = await other.cache.getOrLoad("b", load, { codec: orders });
    assertEquals([loaded.source, loaded.value()], ["load", order(7n)]);
    assertEquals(other.unreadable.length, 1); // memory and Redis hold the same text
    await eventually(async () => {
      assertEquals((await one.cache.get("b", { codec: orders }))?.value(), order(7n));
    });
  });

  it("hands a loader the value that it replaces", async () => {
    await using cache = new Cache();
    await cache.set("a", order(), { codec: orders });
    await cache.expire("a");
    const stale = Promise.withResolvers<unknown>();
    const load = (context: { stale?: unknown }) => {
      stale.resolve(context.stale);
      return Promise.resolve(order(2n));
    };
    assertEquals((await cache.getOrLoad("a", load, { codec: orders })).value(), order());
    assertEquals(await stale.promise, order());
  });

  it("lets its own failure to write reach the reader, and stores nothing", async () => {
    await using cache = new Cache();
    const error = new Error("no text");
    const codec: Codec<number> = {
      stringify: () => {
        throw error;
      },
      parse: Number,
    };
    const read = () => cache.getOrLoad("a", () => Promise.resolve(1), { codec });
    assertStrictEquals(await assertRejects(read), error);
    assertEquals(await cache.get("a"), undefined);
  });

  it("must write texts that Redis can hold", async () => {
    await using cache = new Cache();
    for (const text of ["a\ud83d", JSON.parse("1"), JSON.parse("null"), JSON.parse("[1]")]) {
      const codec: Codec<number> = { stringify: () => text, parse: Number };
      const read = () => cache.getOrLoad("a", () => Promise.resolve(1), { codec });
      await assertRejects(read, TypeError, "its codec must write a string of whole characters");
    }
  });
});

describe("the option schema", () => {
  it("answers its output", async () => {
    await using cache = new Cache();
    const load = () => Promise.resolve({ at: new Date(5), total: "7", more: 1 });
    for (const source of ["load", "memory"]) {
      const found = await cache.getOrLoad("a", load, { schema: isOrder });
      same<typeof found, Lookup<{ at: Date; total: bigint }>>(true);
      assertEquals([found.source, found.value()], [source, { at: new Date(5), total: 7n }]);
      assert(found.value() !== found.value());
    }
  });

  it("counts what does not fit as missing, and says so", async () => {
    const { cache, unreadable } = openCache();
    await using _ = cache;
    await cache.set("a", { at: "never" });
    const load = () => Promise.resolve({ at: new Date(5), total: 7 });
    const found = await cache.getOrLoad("a", load, { schema: isOrder });
    assertEquals([found.source, found.value()?.total], ["load", 7n]);
    assertEquals(unreadable.length, 1);
    assertEquals((await cache.getOrLoad("a", load, { schema: isOrder })).source, "memory");
  });

  it("refuses to store what does not fit", async () => {
    await using cache = new Cache();
    const load = () => Promise.resolve({ at: "never" });
    await assertRejects(() => cache.getOrLoad("a", load, { schema: isOrder }), SchemaError);
    await assertRejects(() => cache.set("a", { at: "never" }, { schema: isOrder }), SchemaError);
    assertEquals(await cache.get("a"), undefined);
  });

  it("reads what a codec has parsed", async () => {
    await using cache = new Cache();
    const codec = {
      stringify: (value: bigint) => `${value}`,
      parse: (text: string): unknown => BigInt(text),
    };
    const options = { codec, schema: z.bigint().positive() };
    const read = (value: bigint) =>
      cache.getOrLoad<bigint, unknown>("a", () => Promise.resolve(value), options);
    await assertRejects(() => read(-1n), SchemaError);
    assertEquals([(await read(1n)).value(), (await read(2n)).value()], [1n, 1n]);
  });

  it("is refused if it validates by a promise", async () => {
    await using cache = new Cache();
    const schema: Schema<number> = {
      "~standard": { validate: () => Promise.resolve({ value: 1 }) },
    };
    await assertRejects(
      () => cache.getOrLoad("a", () => Promise.resolve(1), { schema }),
      TypeError,
      "promise",
    );
  });
});
