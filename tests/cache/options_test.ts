import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheOptions, type EntryOptions, systemRuntime } from "../../cache/mod.ts";
import { settingsOf } from "../../cache/options.ts";

const numbers = Object.keys(settingsOf({}));

describe("settingsOf()", () => {
  it("has a default for everything, and freezes what it decided", () => {
    const settings = settingsOf({});
    assert(Object.isFrozen(settings));
    assertEquals(settings.ttlMs, 300_000);
    assertEquals(settings.negativeTtlMs, 30_000);
    assert(settings.loadTimeoutMs < settings.leaseMs);
    assert(settings.heartbeatMs < settings.memoryLeaseMs);
    assert(settings.waitMsMax > settings.leaseMs);
  });

  for (const name of numbers) {
    it(`refuses a ${name} that is no number from 0`, () => {
      const refused = { "-1": -1, NaN: NaN, '"5"': "5", null: null, "5n": 5n, true: true };
      for (const [shown, value] of Object.entries(refused)) {
        const options: object = { [name]: value };
        const error = assertThrows(() => settingsOf(options), RangeError);
        assertEquals(
          error.message,
          `Cannot use ${name} ${shown}: it must be a number of at least 0`,
        );
      }
      if (/Ms(Max)?$/.test(name)) return;
      const message = `Cannot use ${name} Infinity: it must be finite`;
      assertThrows(() => settingsOf({ [name]: Infinity }), RangeError, message);
    });
  }

  const impossible: Readonly<Record<string, CacheOptions>> = {
    "Cannot use leaseMs 0": { leaseMs: 0, loadTimeoutMs: 0 },
    "Cannot use memoryLeaseMs 0": { memoryLeaseMs: 0 },
    "Cannot use heartbeatMs 0": { heartbeatMs: 0 },
    "Cannot use loadsMax 0": { loadsMax: 0 },
    "Cannot use jitterRatio 1.1": { jitterRatio: 1.1 },
    "Cannot use loadTimeoutMs": { leaseMs: 1_000, loadTimeoutMs: 1_000 },
    "Cannot use heartbeatMs": { memoryLeaseMs: 100, heartbeatMs: 100 },
  };
  for (const [message, options] of Object.entries(impossible)) {
    it(`refuses ${JSON.stringify(options)}`, () => {
      assertThrows(() => settingsOf(options), RangeError, message);
      assertThrows(() => new Cache(options), RangeError, message);
    });
  }

  it("refuses a duration as a text before anything is loaded, and shows that it is one", async () => {
    const options = JSON.parse('{ "ttlMs": "5" }');
    const message = 'Cannot use ttlMs "5": it must be a number of at least 0';
    assertThrows(() => new Cache(options), RangeError, message);
    await using cache = new Cache();
    const load = () => Promise.reject(new Error("It was loaded"));
    await assertRejects(() => cache.getOrLoad("a", load, options), RangeError, message);
    await assertRejects(() => cache.set("a", 1, options), RangeError, message);
  });

  const misused: Readonly<Record<string, unknown>> = {
    'Cannot use refresh "yes": it must be of type boolean': { refresh: "yes" },
    'Cannot use tagsOf "a": it must be of type function': { tagsOf: "a" },
    "Cannot use negativeTtlMs a function: it must be a number": { negativeTtlMs: () => 1 },
    "Cannot use graceMs 1n: it must be a number": { graceMs: 1n },
    'Cannot use ttlMs "5": it must be a number': { ttlMs: () => "5" },
    "Cannot use an object as tags: use a list": { tags: {} },
    "Cannot use 5 as a tag: a string of 1 to 200": { tags: [5] },
  };
  for (const [message, options] of Object.entries(misused)) {
    it(`refuses other types: ${message}`, async () => {
      await using cache = new Cache();
      const load = () => Promise.resolve(1);
      const read = () => cache.getOrLoad("a", load, options as EntryOptions<number>);
      await assertRejects(read, Error, message);
    });
  }

  it("refuses a refresh that is none also where the value is in memory", async () => {
    await using cache = new Cache();
    await cache.set("a", 1);
    const options = JSON.parse('{ "refresh": "1" }');
    await assertRejects(() => cache.getOrLoad("a", () => Promise.resolve(2), options), TypeError);
  });

  it("refuses keys that are no list, before anything is loaded", async () => {
    await using cache = new Cache();
    const load = () => Promise.reject(new Error("It was loaded"));
    for (const keys of ["abc", new Set(["a"]), undefined] as never[]) {
      await assertRejects(() => cache.getMany(keys), TypeError, "as keys: use a list");
      await assertRejects(() => cache.getOrLoadMany(keys, load), TypeError, "as keys: use a list");
    }
    const none = undefined as never;
    await assertRejects(() => cache.getOrLoadMany(["a"], none), TypeError, "loadMissing is not");
  });

  it("refuses a misspelt option of warm() and wrap() at once, whatever is popular", async () => {
    await using cache = new Cache();
    const misspelt: object = { ttl: 5 };
    const load = () => Promise.resolve(new Map<string, number>());
    await assertRejects(() => cache.warm(load, misspelt), TypeError, "Cannot use the option ttl");
    assertThrows(
      () => cache.wrap("a", () => Promise.resolve(1), misspelt),
      TypeError,
      "Cannot use the option ttl",
    );
  });

  const none: Readonly<Record<string, unknown>> = {
    "null": null,
    "an array": [],
    "a map": new Map(),
    "a date": new Date(),
    "a promise": Promise.resolve({}),
    "a function": () => ({}),
    "a string": "redis://127.0.0.1:6379",
  };
  for (const [kind, given] of Object.entries(none)) {
    const options = given as never;
    it(`refuses ${kind} in place of options`, async () => {
      const message = `Cannot use ${kind} as options: they are an object`;
      assertThrows(() => new Cache(options), TypeError, message);
      await using cache = new Cache();
      const load = () => Promise.reject(new Error("It was loaded"));
      await assertRejects(() => cache.getOrLoad("a", load, options), TypeError, message);
      await assertRejects(() => cache.get("a", options), TypeError, message);
    });
  }

  it("takes options from a class, a module and an object without a prototype", () => {
    class Options {
      ttlMs = 5;
    }
    const bare = Object.assign(Object.create(null), { ttlMs: 5 });
    const module = Object.assign(Object.create(null), { ttlMs: 5, [Symbol.toStringTag]: "Module" });
    for (const options of [new Options(), bare, module, Object.freeze({ ttlMs: 5 })]) {
      assertEquals(settingsOf(options).ttlMs, 5);
    }
  });

  it("refuses a count of keys that is none", async () => {
    await using cache = new Cache();
    const load = () => Promise.resolve(new Map());
    for (const count of ["5", null, true, 5n, 1.5, -1, 1_001, Infinity, NaN] as number[]) {
      await assertRejects(() => cache.warm(load, { count }), RangeError, "it must be a whole");
    }
    for (const count of ["5", null, true, 5n, 1.5, -1, Infinity, NaN] as number[]) {
      await assertRejects(() => cache.popular(count), RangeError, "it must be a whole number");
    }
  });

  it("cuts durations that are longer than Redis takes", () => {
    const { ttlMs, graceMs } = settingsOf({ ttlMs: Infinity, graceMs: 1e300 });
    assert(ttlMs === graceMs && Number.isSafeInteger(Date.now() + ttlMs + graceMs));
  });

  it("cuts others to what a timer takes, which would else run out at once", () => {
    const { leaseMs, loadTimeoutMs, waitMsMax } = settingsOf({ leaseMs: Infinity });
    assertEquals([leaseMs, waitMsMax], [2 ** 31 - 1, 2 ** 31 - 1]);
    assertEquals(loadTimeoutMs, leaseMs * 0.8);
    const { memoryLeaseMs, heartbeatMs } = settingsOf({ memoryLeaseMs: 1e300 });
    assertEquals([memoryLeaseMs, heartbeatMs], [2 ** 31 - 1, memoryLeaseMs / 4]);
    assertEquals(settingsOf({ commandTimeoutMs: 2 ** 31 }).commandTimeoutMs, 2 ** 31 - 1);
  });

  for (const name of numbers.filter((each) => /Ms(Max)?$/.test(each))) {
    it(`takes an endless ${name}, unless another option is its limit`, async () => {
      const limit = { heartbeatMs: "memoryLeaseMs", loadTimeoutMs: "leaseMs" }[name];
      if (limit !== undefined) {
        const message = `Cannot use ${name} 2147483647: it must be below ${limit}`;
        return void assertThrows(() => settingsOf({ [name]: Infinity }), RangeError, message);
      }
      await using cache = new Cache({ [name]: Infinity });
      const lookup = await cache.getOrLoad("a", () => Promise.resolve(1));
      assertEquals([lookup.value(), (await cache.get("a"))?.value()], [1, 1]);
    });
  }

  it("takes the bounds themselves", () => {
    const settings = settingsOf({ jitterRatio: 1, ttlMs: 0, graceMs: 0, loadsWaitingMax: 0 });
    assertEquals([settings.jitterRatio, settings.ttlMs], [1, 0]);
  });
});

describe("new Cache()", () => {
  it("refuses versions that have no neighbours", () => {
    for (const version of [NaN, Infinity, 1.5, 2 ** 53, ...JSON.parse("[null]")]) {
      assertThrows(() => new Cache({ version }), RangeError, `Cannot use version ${version}`);
    }
    const text = JSON.parse('{ "version": "2" }');
    assertThrows(() => new Cache(text), RangeError, 'Cannot use version "2"');
  });

  it("refuses what would be ignored: unknown options, and values of another type", () => {
    const refused: Readonly<Record<string, unknown>> = {
      "Cannot use the option ttl: there is none of this name, but ttlMs, graceMs, ": { ttl: 60 },
      "Cannot use url undefined: give the address of Redis": { url: undefined },
      "Cannot use url a list: it must be of type string": { url: [] },
      'Cannot use enabled "false": it must be of type boolean': { enabled: "false" },
      "Cannot use onEvent 5: it must be of type function": { onEvent: 5 },
      "Cannot use runtime null: it must be of type object": { runtime: null },
      "Cannot use runtime: it must have random() and a clock": { runtime: {} },
      "Cannot use runtime: it must have": { runtime: { ...systemRuntime, clock: { now() {} } } },
      "Cannot use changes: it must be what postgresChanges() returns": { changes: {} },
    };
    for (const [message, options] of Object.entries(refused)) {
      assertThrows(() => new Cache(options as CacheOptions), TypeError, message);
    }
    new Cache({ ...JSON.parse("{}"), ca: undefined, ttlMs: undefined });
  });

  it("refuses URLs and prefixes that it can't use", () => {
    for (const url of ["http://h", "localhost:6379", "", "redis://h?x=1", "redis://:a@b@h"]) {
      const message = "its URL must be memory: or like redis://user:password@host:6379/0";
      assertThrows(() => new Cache({ url }), TypeError, message);
    }
    assertThrows(
      () => new Cache({ url: "redis://:a/b@h" }),
      TypeError,
      "in a password, write / as %2F",
    );
    assertThrows(() => new Cache({ prefix: "a:b" }), TypeError);
  });
});
