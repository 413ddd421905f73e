import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { CacheEvent } from "../../cache/mod.ts";
import {
  cacheEventLogger,
  lookupLogger,
  problemLogger,
  requestErrorLogger,
} from "../../server/event_logging.ts";
import { Repeats } from "../../server/repeats.ts";
import { recorded } from "../support/recorded.ts";

describe("cacheEventLogger()", () => {
  it("logs fills and deletes at debug, with key and duration", async () => {
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => 0 });
      log({ type: "fill", key: "user:1", ttlMs: 5, costMs: 2 });
      log({ type: "invalidate", keys: ["user:1"], pending: false });
    });
    assertEquals(records.map(({ level, properties }) => [level, properties]), [
      ["debug", { key: "user:1", ttlMs: 5, costMs: 2 }],
      ["debug", { keys: ["user:1"], pending: false }],
    ]);
  });

  it("says once per outage why Redis fails", async () => {
    const server = "localhost:6379/0";
    const failure: CacheEvent = {
      type: "redis-error",
      server,
      command: "get",
      error: new Error("gone"),
    };
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => 0 });
      for (let time = 0; time < 3; time++) log(failure);
      log({ type: "connection", server, connected: true });
      log(failure);
    });
    assertEquals(records.map(({ level }) => level), [
      "warning",
      "debug",
      "debug",
      "info",
      "warning",
    ]);
    assertMatch(String(records[0]?.message.join("")), /Cannot run get on Redis: gone/);
  });
});

describe("cacheEventLogger() on a Redis that refuses commands", () => {
  it("says each refusal, and once that commands fail", async () => {
    const failure = (name: string, text: string): CacheEvent => ({
      type: "redis-error",
      server: "localhost:6379/0",
      command: "fill",
      error: Object.assign(new Error(text), { name }),
    });
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => 0 });
      log(failure("CommandTimeoutError", "timed out"));
      log(failure("ReplyError", "OOM"));
      log(failure("CommandTimeoutError", "timed out"));
      log(failure("ReplyError", "NOPERM"));
    });
    const said = records.filter(({ level }) => level === "warning");
    assertEquals(
      said.map(({ message }) => message.join("")),
      ["timed out", "OOM", "NOPERM"].map((text) => `Cannot run fill on Redis: ${text}`),
    );
  });
});

describe("cacheEventLogger() on a Redis that cannot be reached", () => {
  it("says each reason, and nothing of commands that had no connection", async () => {
    const server = "localhost:6379/0";
    const failure = (command: string, text: string, name = "Error"): CacheEvent => ({
      type: "redis-error",
      server,
      command,
      error: Object.assign(new Error(text), { name }),
    });
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => 0 });
      log(failure("get", "there is no connection", "NotConnectedError"));
      const error = Object.assign(new Error("it is open"), { name: "BreakerOpenError" });
      log({ type: "catch-up-error", server, error });
      log({ type: "connection", server, connected: false });
      log(failure("connect", "ECONNRESET"));
      log(failure("fill", "there is no connection", "NotConnectedError"));
      log(failure("connect", "certificate has expired"));
    });
    const said = records.filter(({ level }) => level === "warning");
    assertEquals(said.map(({ message }) => message.join("")), [
      "Redis cannot be reached: answering without it",
      "Cannot connect to Redis: ECONNRESET",
      "Cannot connect to Redis: certificate has expired",
    ]);
  });
});

/** What Deno throws for an address that is not listed. */
function refusal(address: string): Error {
  return new Deno.errors.NotCapable(
    `Requires net access to "${address}", run again with the --allow-net flag`,
  );
}

describe("cacheEventLogger() on an address that the permissions do not list", () => {
  it("names it once and says what to do, also where a cluster's client tells of it", async () => {
    const server = "10.0.0.1:7000";
    const all = Object.assign(new Error("Failed to refresh slots cache."), {
      lastNodeError: refusal("10.0.0.8:7001"),
    });
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => 0 });
      for (let time = 0; time < 3; time++) {
        for (const error of [refusal("10.0.0.9:7001"), refusal("[::9]:7001"), all]) {
          log({ type: "redis-error", server, command: "connect", error });
        }
        log({ type: "connection", server, connected: time % 2 === 0 });
      }
    });
    assertEquals(
      records.filter(({ level }) => level === "error").map(({ message }) => message.join("")),
      ["10.0.0.9:7001", "[::9]:7001", "10.0.0.8:7001"].map((address) =>
        `Cannot connect to ${address}: the permissions do not list it; add it to REDIS_NODES`
      ),
    );
  });
});

describe("cacheEventLogger() in a long outage", () => {
  it("says each thing once, until it is over", async () => {
    const server = "10.0.0.1:7000";
    const error = new Error("gone");
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => 0 });
      for (let outage = 0; outage < 2; outage++) {
        for (let time = 0; time < 3; time++) {
          log({ type: "connection", server, connected: false });
          log({ type: "catch-up-error", server, error });
          log({ type: "redis-error", server, command: "get", error });
          log({ type: "breaker", server, state: "open" });
          log({ type: "breaker", server, state: "half-open" });
        }
        // Another server of a ring has its own.
        log({ type: "connection", server: "10.0.0.2:7000", connected: outage === 0 });
        log({ type: "connection", server, connected: true });
        log({ type: "caught-up", server, replayed: true });
        log({ type: "breaker", server, state: "closed" });
      }
    });
    const outage = [
      ["warning", "Redis cannot be reached: answering without it"],
      ["warning", 'Cannot apply missed changes, so Redis is not read: "gone"'],
      ["warning", "Cannot run get on Redis: gone"],
      ["warning", 'Redis fails, so most commands are not sent: the circuit breaker is "open"'],
    ];
    const over = [
      ["info", "connected to Redis"],
      ["info", "applied the latest changes again, which this Redis may lack"],
      ["info", 'Redis answers again: the circuit breaker is "closed"'],
    ];
    assertEquals(
      records.filter(({ level }) => level !== "debug").map(({ level, message }) => [
        level,
        message.map((part) =>
          typeof part === "string" && !/^(gone|open|closed)$/.test(part) ? part : `"${part}"`
        )
          .join(""),
      ]),
      [
        ...[...outage, ["info", "connected to Redis"], ...over],
        ...[...outage, ["warning", "Redis cannot be reached: answering without it"], ...over],
      ],
    );
  });
});

describe("cacheEventLogger() on a Redis that comes and goes", () => {
  it("says so, and then nothing of it until a minute is over, but what happens to others", async () => {
    const [server, other] = ["10.0.0.1:7000", "10.0.0.2:7000"] as const;
    let nowMs = 0;
    const records = await recorded((logger) => {
      const log = cacheEventLogger(logger, { monotonicNow: () => nowMs });
      for (; nowMs < 120_000; nowMs += 100) {
        log({ type: "coherent", server, coherent: false, reason: "connection closed" });
        log({ type: "connection", server, connected: false });
        log({ type: "redis-error", server, command: "get", error: new Error("gone") });
        log({ type: "connection", server, connected: true });
        log({ type: "caught-up", server, replayed: false });
        log({ type: "coherent", server, coherent: true, reason: "the feed answers" });
        if (nowMs === 30_000) log({ type: "connection", server: other, connected: false });
      }
    });
    const said = records.filter(({ level }) => level !== "debug");
    assertEquals(said.length, 2 * 40 + 1);
    const muted = said.filter(({ message }) => /too often/.test(message.join("")));
    assertEquals(muted.map(({ properties }) => properties), [{ server }, { server }]);
    assertEquals(said.filter(({ properties }) => properties.server === other).length, 1);
  });
});

describe("problemLogger()", () => {
  it("says each problem once a minute, and what to do", async () => {
    let atMs = 0;
    const records = await recorded((logger) => {
      const log = problemLogger(logger, { monotonicNow: () => atMs });
      for (; atMs <= 60_000; atMs += 30_000) log({ problem: "It leaks", remedy: "Mend it" });
    });
    assertEquals(records.map(({ level, message }) => [level, message.join("")]), [
      ["warning", "It leaks. Mend it"],
      ["debug", "It leaks. Mend it"],
      ["warning", "It leaks. Mend it"],
    ]);
  });
});

describe("lookupLogger()", () => {
  it("logs hits, stale hits and misses with key, tier and duration", async () => {
    const records = await recorded((logger) => {
      const log = lookupLogger(logger);
      log({ key: "a", source: "memory", stale: false, durationMs: 0.01234 });
      log({ key: "b", source: "redis", stale: true, durationMs: 1 });
      log({ key: "c", source: "load", stale: false, durationMs: 2 });
    });
    assertEquals(records.map(({ properties }) => properties), [
      { outcome: "hit", key: "a", tier: "memory", durationMs: 0.012 },
      { outcome: "stale hit", key: "b", tier: "redis", durationMs: 1 },
      { outcome: "miss", key: "c", tier: "load", durationMs: 2 },
    ]);
    assert(records.every(({ level }) => level === "debug"));
  });
});

describe("requestErrorLogger()", () => {
  it("says once a minute why requests fail, with how many went unsaid, whatever they ask for", async () => {
    let atMs = 0;
    const records = await recorded((logger) => {
      const log = requestErrorLogger(logger, { monotonicNow: () => atMs });
      const fail = (status: number, reason: string) =>
        log(new Error(reason), { method: "GET", path: `/users/${atMs}`, status });
      for (; atMs <= 60_000; atMs += 100) {
        fail(503, "connection refused");
        fail(403, "permission denied");
        fail(500, "no such column");
      }
    });
    assertEquals(
      records.filter(({ level }) => level !== "debug").map(({ level, properties }) => [
        level,
        properties.reason,
        properties.unsaid,
      ]),
      [
        ["warning", "connection refused", undefined],
        ["warning", "permission denied", undefined],
        ["error", "no such column", undefined],
        ["warning", "connection refused", 599],
        ["warning", "permission denied", 599],
        ["error", "no such column", 599],
      ],
    );
  });
});

describe("Repeats", () => {
  it("forgets what was said longest ago when there is too much", () => {
    const repeats = new Repeats({ monotonicNow: () => 0 });
    for (let at = 0; at < 1_000; at++) assertEquals(repeats.note(`thing ${at}`), 0);
    assertEquals([repeats.note("thing 999"), repeats.note("thing 0")], [undefined, 0]);
  });
});
