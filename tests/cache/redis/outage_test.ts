import { assert, assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import { CacheClosedError } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { startTcpProxy } from "../../../tools/servers/tcp_proxy.ts";
import { ownTime } from "../../support/own_time.ts";
import { coherent, freshPrefix, holdInMemory, type Node, openNode, Row } from "./nodes.ts";
import { later } from "../../support/later.ts";

const COMMAND_TIMEOUT_MS = 250;
/** As an instance has them by default. */
const BOUNDS = { commandTimeoutMs: COMMAND_TIMEOUT_MS, memoryLeaseMs: 1_000 };
/** How long after the return of Redis everything is as before. */
const RETURN_MS_MAX = 2_000;

/** An outage: how it begins and how it ends, and whether Redis keeps what it held. */
interface Outage {
  readonly name: string;
  readonly appendOnly: boolean;
  readonly begin: (server: RedisServer) => void | Promise<void>;
  readonly end: (server: RedisServer) => void | Promise<void>;
}

const outages: readonly Outage[] = [
  {
    name: "killed and restarted empty",
    appendOnly: false,
    begin: (server) => server.kill(),
    end: (server) => server.start(),
  },
  {
    name: "killed and restarted with what it held",
    appendOnly: true,
    begin: (server) => server.kill(),
    end: (server) => server.start(),
  },
  {
    name: "stopped and continued",
    appendOnly: false,
    begin: (server) => server.pause(),
    end: (server) => server.resume(),
  },
];

interface Reading extends AsyncDisposable {
  /** Ends it, and answers every value it got. */
  readonly stop: () => Promise<string[]>;
}

/** Reads in turn until stopped, by a loader that answers what the row says. */
function readOn(node: Node, row: Row): Reading {
  let stopped = false;
  const values = new Set<string>();
  const reading = (async () => {
    while (!stopped) {
      values.add((await node.cache.getOrLoad("k", row.load)).value() ?? "nothing");
      await delay(1);
    }
  })();
  const stop = async () => {
    stopped = true;
    await reading;
    return [...values];
  };
  return {
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
    },
  };
}

describe("Cache while Redis is", () => {
  for (const { name, appendOnly, begin, end } of outages) {
    it(`${name}: reads load, a delete holds at once and everywhere on the return`, async () => {
      using time = ownTime();
      await using server = await startRedis({ appendOnly });
      const prefix = freshPrefix();
      await using node = openNode(server.url, { prefix, ...BOUNDS });
      await using other = openNode(server.url, { prefix, ...BOUNDS });
      await coherent(node, other);
      const row = new Row("old");
      await holdInMemory([node, other], "k", row.load);

      await begin(server);
      row.value = "new";
      assertEquals(await node.cache.delete("k"), "pending");
      assertEquals(node.cache.stats().pendingInvalidations, 1);
      await using reading = readOn(node, row);
      await eventually(() => {
        assertEquals(node.cache.stats().coherent, false);
        assertGreater(node.count("breaker", { state: "open" }), 0);
      });

      await end(server);
      const returnedAtMs = time.now();
      await coherent(node, other);
      const tookMs = time.now() - returnedAtMs;
      assertLess(tookMs, RETURN_MS_MAX);
      assertEquals((await other.cache.getOrLoad("k", row.load)).value(), "new");
      await holdInMemory([node, other], "k", row.load);
      assertEquals(await reading.stop(), ["new"]);
      assertEquals([node, other].map(({ cache }) => cache.stats().loadErrors), [0, 0]);
    });

    it(`${name}: reads and deletes are bounded by the time-out, then by the breaker`, async () => {
      using time = ownTime();
      await using server = await startRedis({ appendOnly });
      await using node = openNode(server.url, {
        prefix: freshPrefix(),
        ...BOUNDS,
        memoryBytes: 0,
      });
      await coherent(node);
      await begin(server);
      const startedAtMs = time.now();
      const waits: { readonly afterOpen: boolean; readonly durationMs: number }[] = [];
      let asked = 0;
      const reading = await Promise.allSettled(Array.from({ length: 10 }, async () => {
        while (time.now() < startedAtMs + 2_000) {
          const afterOpen = node.cache.stats().breaker !== "closed";
          const sentAtMs = time.now();
          const key = `k${asked++}`;
          if (asked % 2 === 0) await node.cache.delete(key);
          else {
            const found = await node.cache.getOrLoad(key, () => Promise.resolve("loaded"));
            assertEquals(found.value(), "loaded");
          }
          waits.push({ afterOpen, durationMs: time.now() - sentAtMs });
          await delay(2);
        }
      }));
      assertEquals(reading.map(({ status }) => status), reading.map(() => "fulfilled"));
      const worstMs = Math.max(...waits.map(({ durationMs }) => durationMs));
      assertLess(worstMs, 2 * COMMAND_TIMEOUT_MS);
      const protectedCalls = waits.filter(({ afterOpen }) => afterOpen);
      assertGreater(protectedCalls.length, 200);
      assertGreater(node.count("breaker", { state: "half-open" }), 1);
      const waited = protectedCalls.filter(({ durationMs }) => durationMs > COMMAND_TIMEOUT_MS / 2);
      assertEquals(waited, [], "a caller waited for a probe");
      await end(server);
      const returnedAtMs = time.now();
      await eventually(async () => {
        await node.cache.get("k"); // a breaker closes by a call that succeeds
        assertEquals(node.cache.stats().breaker, "closed");
      });
      assertLess(time.now() - returnedAtMs, RETURN_MS_MAX);
    });
  }

  it("stopped: close() ends within its bound and leaves nothing behind", async () => {
    using time = ownTime();
    await using server = await startRedis();
    const node = openNode(server.url, { prefix: freshPrefix(), ...BOUNDS });
    await coherent(node);
    server.pause();
    const reads = Array.from(
      { length: 5 },
      (_, at) => later(node.cache.getOrLoad(`k${at}`, () => Promise.resolve(at))),
    );
    const deletion = node.cache.delete("k9");
    const startedAtMs = time.now();
    await node.cache.close();
    assertLess(time.now() - startedAtMs, 1_900);
    // What was under way is answered, or told that it was too late: nobody is left waiting.
    for (const [at, read] of (await Promise.allSettled(reads)).entries()) {
      if (read.status === "fulfilled") assertEquals(read.value.value(), at);
      else assert(read.reason instanceof CacheClosedError, String(read.reason));
    }
    assertEquals(await deletion, "pending");
  });

  it("down from the start: reads load, and it is used once it is there", async () => {
    await using server = await startRedis();
    await server.stop();
    await using node = openNode(server.url, { prefix: freshPrefix(), ...BOUNDS });
    const row = new Row("value");
    assertEquals((await node.cache.getOrLoad("k", row.load)).source, "load");
    await server.start();
    await coherent(node);
    await holdInMemory([node], "k", row.load);
  });

  it("killed: says why it cannot be reached, and names no option of the client", async () => {
    await using server = await startRedis();
    await using node = openNode(server.serviceUrl, { prefix: freshPrefix(), ...BOUNDS });
    await coherent(node);
    const row = new Row("value");
    const reading = Array.from({ length: 10 }, (_, n) => node.cache.getOrLoad(`${n}`, row.load));
    await server.kill();
    await Promise.all(reading);
    const told = (command: RegExp) =>
      node.events.flatMap((event) =>
        event.type === "redis-error" && command.test(event.command) ? [`${event.error}`] : []
      );
    await eventually(async () => {
      await node.cache.getOrLoad("k", row.load);
      assertMatch(told(/^connect$/).join(), /ECONNREFUSED/);
      assertMatch(told(/./).join(), /there is no connection to Redis/);
    });
    assertEquals(told(/./).filter((text) => /Queue|maxRetries/.test(text)), []);
  });

  it("down: close() leaves nothing behind", async () => {
    using time = ownTime();
    await using server = await startRedis();
    await server.stop();
    const node = openNode(server.url, { prefix: freshPrefix(), ...BOUNDS });
    await node.cache.getOrLoad("k", () => Promise.resolve(1));
    await delay(120);
    const startedAtMs = time.now();
    await node.cache.close();
    assertLess(time.now() - startedAtMs, 1_900);
  });
});

describe("A network that swallows everything and closes nothing", () => {
  for (const returns of ["resumes", "lets only new connections through"] as const) {
    it(`costs latency, and Redis is used again when it ${returns}`, async () => {
      using time = ownTime();
      await using server = await startRedis();
      await using proxy = startTcpProxy(server.port);
      const prefix = freshPrefix();
      await using node = openNode(`redis://127.0.0.1:${proxy.port}`, { prefix, ...BOUNDS });
      await using other = openNode(server.url, { prefix, ...BOUNDS });
      await coherent(node, other);
      const row = new Row("old");
      await holdInMemory([node, other], "k", row.load);

      if (returns === "resumes") proxy.hang();
      else proxy.strand();
      row.value = "new";
      assertEquals(await node.cache.delete("k"), "pending");
      await using reading = readOn(node, row);
      if (returns === "resumes") {
        await eventually(() => assert(node.cache.stats().breaker !== "closed"));
        proxy.pass();
      }
      const passingAtMs = time.now();
      await coherent(node);
      // A stranded connection has to be recognised first: four time-outs without an answer.
      const boundMs = RETURN_MS_MAX + (returns === "resumes" ? 0 : 4 * COMMAND_TIMEOUT_MS);
      assertLess(time.now() - passingAtMs, boundMs);
      await holdInMemory([node], "k", row.load);
      assertEquals(await reading.stop(), ["new"]);
      await eventually(async () =>
        assertEquals((await other.cache.getOrLoad("k", row.load)).value(), "new")
      );
    });
  }
});
