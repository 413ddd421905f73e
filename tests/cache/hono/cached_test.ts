import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { cors } from "hono/cors";
import { cached, type CachedOptions } from "../../../cache/hono/mod.ts";
import { Cache } from "../../../cache/mod.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { FakeRuntime } from "../../support/fake_runtime.ts";

type Handler = (context: Context, run: number) => Response | Promise<Response>;

/** An app with one cached route, and how often its handler ran. */
function open(handler: Handler, options: CachedOptions = {}, cacheOptions = {}) {
  const runtime = new FakeRuntime();
  const cache = new Cache({ runtime, jitterRatio: 0, ...cacheOptions });
  const app = new Hono();
  let runs = 0;
  app.all("/data/*", cached(cache, { clock: runtime.clock, ...options }), (context) => {
    return handler(context, ++runs);
  });
  return {
    app,
    cache,
    clock: runtime.clock,
    runs: () => runs,
    get: async (path: string, init?: RequestInit) => {
      const response = await app.request(path, init);
      return { response, status: response.status, text: await response.text() };
    },
    [Symbol.asyncDispose]: () => cache.close(),
  };
}

const counted: Handler = (context, run) => context.json({ run });

type Mount = (
  middleware: MiddlewareHandler,
  handler: (context: Context) => Promise<Response>,
) => Hono;

const setUser: MiddlewareHandler = async (context, next) => {
  context.set("user", "ada");
  await next();
};

/** Ways to put the middleware in front of a handler. */
const MOUNTS: Readonly<Record<string, Mount>> = {
  "in front of it": (middleware, handler) =>
    new Hono().use(setUser).get("/data/:id", middleware, handler),
  "in front of all": (middleware, handler) =>
    new Hono().use("/data/*", setUser, middleware).get("/data/:id", handler),
  "with another in between": (middleware, handler) =>
    new Hono().use(middleware).use(setUser).get("/data/:id", handler),
  "in an app of its own": (middleware, handler) => {
    const inner = new Hono().use(setUser).get("/:id", middleware, handler);
    inner.onError((error) => new Response(error.message, { status: 500 }));
    return new Hono().route("/data", inner);
  },
};

describe("cached()", () => {
  it("refuses options that are none", async () => {
    await using cache = new Cache();
    const none = [["orders"], () => "key", { ttl: 60_000 }, { key: "id" }, { tags: "orders" }];
    for (const options of [...none, { vary: "accept" }, { tagsOf: [] }, { clock: null }]) {
      assertThrows(() => cached(cache, options as CachedOptions), TypeError, "Cannot use");
    }
    const text: object = { ttlMs: "60000" };
    assertThrows(() => cached(cache, text), RangeError, 'Cannot use ttlMs "60000"');
  });

  it("answers the text of the first answer, byte for byte, with Cache-Status and a weak ETag", async () => {
    const text = '{"n": 1.10,  "big": 12345678901234567890}';
    await using made = open((context) =>
      context.body(text, 200, { "content-type": "application/json; charset=UTF-8", "age": "1" })
    );
    const first = await made.get("/data/a");
    const again = await made.get("/data/a");
    assertEquals([first.text, again.text, made.runs()], [text, text, 1]);
    assertEquals(
      [first, again].map(({ response }) => response.headers.get("cache-status")),
      [
        "Lookaside; fwd=uri-miss; stored; detail=database",
        "Lookaside; hit; ttl=300; detail=memory",
      ],
    );
    const etag = again.response.headers.get("etag") ?? "";
    assertMatch(etag, /^W\/"[0-9a-f]{16}"$/);
    assertEquals(first.response.headers.get("etag"), etag);
    assertEquals([...first.response.headers.keys()], [...again.response.headers.keys()]);
    const unchanged = await made.get("/data/a", { headers: { "if-none-match": etag } });
    assertEquals([unchanged.status, unchanged.text], [304, ""]);
    const head = await made.get("/data/a", { method: "HEAD" });
    assertEquals([head.status, head.text, head.response.headers.get("etag")], [200, "", etag]);
    assertEquals(made.runs(), 1);
  });

  it("takes path and query, in whatever order, for the key, and any text for part of it", async () => {
    await using made = open(counted);
    const runOf = async (path: string) => JSON.parse((await made.get(path)).text).run;
    assertEquals(await runOf("/data/a?x=1&y=2"), 1);
    assertEquals(await runOf("/data/a?y=2&x=1"), 1);
    assertEquals(await runOf("/data/a?x=1&y=3"), 2);
    assertEquals(await runOf("/data/b?x=1&y=3"), 3);
    assertEquals(await runOf(`/data/${"l".repeat(300)}`), 4);
    assertEquals(await runOf(`/data/${"l".repeat(300)}`), 4);
    assertEquals(await runOf("/data/{a}?q={b}"), 5);
    assertEquals(await runOf("/data/{a}?q={b}"), 5);
  });

  it("keeps the order of parameters with one name, however it is written", async () => {
    await using made = open(({ req }) => Response.json(req.queries("x")));
    const valuesOf = async (query: string) => JSON.parse((await made.get(`/data/a?${query}`)).text);
    assertEquals(await valuesOf("x=1&y=0&x=2"), ["1", "2"]);
    assertEquals(await valuesOf("x=2&x=1&y=0"), ["2", "1"]);
    assertEquals(await valuesOf("%78=1&x=2&x=3"), ["1", "2", "3"]);
    assertEquals(await valuesOf("x=2&%78=1&x=3"), ["2", "1", "3"]);
    assertEquals(await valuesOf("y=0&x=1&x=2"), ["1", "2"]);
    assertEquals(made.runs(), 4);
  });

  it("does not call stored what has no time to live", async () => {
    await using made = open(counted, { ttlMs: 0 });
    for (let run = 1; run <= 2; run++) {
      const { response, text } = await made.get("/data/a");
      assertEquals(text, `{"run":${run}}`);
      const status = response.headers.get("cache-status");
      assertEquals(status, "Lookaside; fwd=uri-miss; detail=database");
    }
  });

  it("leaves the headers that middleware sets around it, on a miss as on a hit", async () => {
    await using cache = new Cache();
    const app = new Hono();
    app.use(cors({ origin: "https://a.example" }));
    app.use(async (context, next) => {
      context.header("x-before", "1");
      await next();
      context.header("x-after", "1");
    });
    app.get("/data", cached(cache), (context) => context.json(1));
    const headersOf = async () => {
      const { headers } = await app.request("/data", { headers: { origin: "https://a.example" } });
      const names = ["access-control-allow-origin", "vary", "x-before", "x-after", "cache-status"];
      return names.map((name) => headers.get(name));
    };
    const expected = ["https://a.example", "Origin", "1", "1"];
    const [miss, hit] = [await headersOf(), await headersOf()];
    assertEquals([miss.slice(0, 4), hit.slice(0, 4)], [expected, expected]);
    assertMatch(String(hit[4]), /^Lookaside; hit;/);
  });

  it("runs the handler once for a stampede, and once for each who must not share", async () => {
    const gate = Promise.withResolvers<void>();
    await using made = open(async (context, run) => {
      await gate.promise;
      if (context.req.path.endsWith("own")) context.header("set-cookie", `id=${run}`);
      return context.json({ run });
    });
    const shared = Array.from({ length: 20 }, () => made.get("/data/shared"));
    const own = Array.from({ length: 20 }, () => made.get("/data/own"));
    gate.resolve();
    assertEquals(new Set((await Promise.all(shared)).map(({ text }) => text)).size, 1);
    assertEquals(new Set((await Promise.all(own)).map(({ text }) => text)).size, 20);
    assertEquals(made.runs(), 21);
  });

  it("passes what is not to be stored as it is, each time", async () => {
    const passed: Record<string, Handler> = {
      text: (context) => context.text("plain"),
      error: (context) => context.json({ error: "no" }, 500),
      created: (context) => context.json({}, 201),
      cookie: (context) => context.json({}, 200, { "set-cookie": "a=1" }),
      private: (context) => context.json({}, 200, { "cache-control": "max-age=3, private" }),
      unstored: (context) => context.json({}, 200, { "cache-control": "no-store" }),
      "none, with a cookie": (context) => context.json({}, 404, { "set-cookie": "a=1" }),
      "half of it": (context) => context.body("{", 200, { "content-type": "application/json" }),
      "no UTF-8": (context) =>
        context.body(new Uint8Array([34, 255, 34]), 200, { "content-type": "application/json" }),
      long: (context) => context.json("x".repeat(1024 * 1024)),
      packed: (context) => context.json({}, 200, { "content-encoding": "zstd" }),
      linked: (context) => context.json({}, 200, { "link": "</data/b>; rel=next" }),
      varied: (context) => context.json({}, 200, { "vary": "Accept-Encoding, Accept-Language" }),
      thrown: () => Promise.reject(new Error("thrown")),
    };
    for (const [name, handler] of Object.entries(passed)) {
      await using made = open(handler);
      const plain = new Hono().all("/data/*", (context) => handler(context, 1));
      for (const hono of [made.app, plain]) hono.onError((_, context) => context.text("!", 500));
      const wanted = await plain.request("/data/a");
      for (
        const response of [await made.app.request("/data/a"), await made.app.request("/data/a")]
      ) {
        assertEquals(response.status, wanted.status, name);
        assertEquals([...response.headers], [...wanted.headers], name);
        assertEquals(await response.bytes(), await wanted.clone().bytes(), name);
      }
      assertEquals(made.runs(), 2, name);
    }
  });

  it("hands a stream on while it runs", async () => {
    const gate = Promise.withResolvers<void>();
    await using made = open(() => {
      const body = new ReadableStream<Uint8Array>({
        async start(controller) {
          controller.enqueue(new TextEncoder().encode("data: 1\n\n"));
          await gate.promise;
          controller.close();
        },
      });
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    });
    const reader = (await made.app.request("/data/a")).body?.getReader();
    assertEquals((await reader?.read())?.value?.length, 9);
    gate.resolve();
    assertEquals((await reader?.read())?.done, true);
  });

  it("remembers that there is none, and asks the app what to say of it", async () => {
    await using made = open((context) => context.json({ error: "no such report" }, 404));
    made.app.notFound((context) => context.json({ error: "not found" }, 404));
    assertEquals((await made.get("/data/a")).text, '{"error":"no such report"}');
    const again = await made.get("/data/a");
    assertEquals([again.status, again.text, made.runs()], [404, '{"error":"not found"}', 1]);
    assertMatch(again.response.headers.get("cache-status") ?? "", /^Lookaside; hit; ttl=30;/);
  });

  it("lets those pass who say who they are, unless told whose an answer is", async () => {
    const sent = [{ authorization: "Bearer a" }, { authorization: "Bearer b" }, { cookie: "id=a" }];
    const runsFor = async (options: CachedOptions) => {
      await using made = open(counted, options);
      for (const headers of [...sent, ...sent]) await made.get("/data/a", { headers });
      return made.runs();
    };
    assertEquals(await runsFor({}), 6);
    assertEquals(await runsFor({ vary: ["authorization", "cookie"] }), 3);
    assertEquals(await runsFor({ vary: ({ req }) => req.header("authorization") ?? "" }), 3);
    const spoken: Handler = (context) =>
      context.json({}, 200, { "vary": "Accept-Language, accept-encoding" });
    await using made = open(spoken, { vary: ["accept-language"] });
    for (const language of ["fr", "fr", "en"]) {
      const { response } = await made.get("/data/a", { headers: { "accept-language": language } });
      assertEquals(response.headers.get("vary"), "accept-language");
    }
    assertEquals(made.runs(), 2);
  });

  it("invalidates by tag, lives for its time, and leaves writes alone", async () => {
    await using made = open(counted, {
      ttlMs: 1_000,
      tags: ({ req }) => [`of:${req.path.split("/").at(-1)}`],
    }, { graceMs: 0 });
    await made.get("/data/a");
    await made.get("/data/b");
    await made.cache.invalidateTags("of:a");
    await made.get("/data/a");
    await made.get("/data/b");
    assertEquals(made.runs(), 3);
    await made.clock.advance(1_001);
    await made.get("/data/b");
    assertEquals(made.runs(), 4);
    for (const method of ["POST", "PUT", "DELETE"]) await made.get("/data/a", { method });
    assertEquals(made.runs(), 7);
  });

  it("invalidates by tags that stand in the answer", async () => {
    await using made = open((context, run) => context.json({ customer: 7, run }), {
      tagsOf: (answer) => [`customer:${(answer as { customer: number }).customer}`],
    });
    const from = async () => (await made.get("/data/a")).response.headers.get("cache-status") ?? "";
    assertEquals(await from(), "Lookaside; fwd=uri-miss; detail=database"); // not stored
    assertEquals(await from(), "Lookaside; fwd=uri-miss; stored; detail=database");
    assertMatch(await from(), /hit/);
    await made.cache.invalidateTags("customer:8");
    assertMatch(await from(), /hit/);
    await made.cache.invalidateTags("customer:7");
    assertEquals(await from(), "Lookaside; fwd=uri-miss; stored; detail=database");
    assertEquals((await made.get("/data/a")).text, '{"customer":7,"run":3}');
    const missing = await made.get("/data/b");
    assertEquals(missing.status, 200);
  });

  it("answers stale within grace while the handler runs for the next", async () => {
    await using made = open(counted, { ttlMs: 1_000 }, { graceMs: 60_000 });
    await made.get("/data/a");
    await made.clock.advance(2_000);
    const stale = await made.get("/data/a");
    assertEquals(stale.text, '{"run":1}');
    assertMatch(stale.response.headers.get("cache-status") ?? "", /ttl=-\d+/);
    await eventually(async () => assertEquals((await made.get("/data/a")).text, '{"run":2}'));
    assertEquals(made.runs(), 2);
  });

  for (const [name, mount] of Object.entries(MOUNTS)) {
    it(`stores what a slow handler answers after a stale response, ${name}`, async () => {
      const runtime = new FakeRuntime();
      await using cache = new Cache({ runtime, jitterRatio: 0, earlyRefreshBeta: 0 });
      const asked: string[] = [];
      let run = 0;
      const app = mount(
        cached(cache, { clock: runtime.clock, ttlMs: 1_000 }),
        async (context) => {
          await new Promise((resolve) => setTimeout(resolve, 5));
          asked.push(`${context.req.param("id")} ${context.get("user")} ${context.env?.name}`);
          context.header("age", `${++run}`);
          return context.json({ run });
        },
      );
      const get = async () => {
        const response = await app.request("/data/a", {}, { name: "env" });
        return [await response.text(), response.headers.get("age"), response.status];
      };
      for (const [before, after] of [[1, 1], [1, 2], [2, 3]]) {
        await runtime.clock.advance(2_000);
        assertEquals(await get(), [`{"run":${before}}`, null, 200]);
        await eventually(async () => {
          assertEquals(await get(), [`{"run":${after}}`, null, 200]);
        });
      }
      assertEquals(new Set(asked), new Set(["a ada env"]));
    });
  }

  it("leaves a stale response as it is where it cannot tell the handlers, until its grace ends", async () => {
    const runtime = new FakeRuntime();
    await using cache = new Cache({ runtime, jitterRatio: 0, graceMs: 5_000 });
    let run = 0;
    const middleware = every(cached(cache, { clock: runtime.clock, ttlMs: 1_000 }), setUser);
    const app = new Hono().get("/data", middleware, async (context) => {
      await Promise.resolve();
      return context.json({ run: ++run });
    });
    const get = async () => await (await app.request("/data")).text();
    for (const [elapsedMs, expected] of [[0, 1], [2_000, 1], [3_000, 1], [2_000, 2]] as const) {
      await runtime.clock.advance(elapsedMs);
      assertEquals(await get(), `{"run":${expected}}`);
    }
  });

  it("shares one run among processes, and answers from Redis", async () => {
    await using server = await startRedis();
    const gate = Promise.withResolvers<void>();
    const handler: Handler = async (context, run) => {
      await gate.promise;
      return context.json({ run, at: crypto.randomUUID() });
    };
    const connected = () => new Cache({ url: server.serviceUrl, prefix: "thono" });
    const caches = [connected(), connected()];
    const runs: number[] = [];
    const apps = caches.map((cache) =>
      new Hono().get("/data/a", cached(cache), (context) => {
        runs.push(1);
        return handler(context, 1);
      })
    );
    await eventually(async () => {
      for (const [at, cache] of caches.entries()) {
        await cache.set(`probe:${at}`, at);
        assert(await caches[1 - at]?.get(`probe:${at}`) !== undefined, "not connected yet");
      }
    });
    const answers = apps.flatMap((app) => Array.from({ length: 10 }, () => app.request("/data/a")));
    gate.resolve();
    const texts = await Promise.all(answers.map(async (answer) => await (await answer).text()));
    assertEquals([new Set(texts).size, runs.length], [1, 1]);
    for (const cache of caches) await cache.close();
  });
});
