/**
 * What many callers of many instances that miss one key together may cost. One suite for every
 * arrangement of servers.
 *
 * @module
 */
import { systemRuntime } from "../../../cache/mod.ts";
import { assert, assertEquals, assertGreater, assertLessOrEqual } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startLoaderProcess } from "../../support/loader_process.ts";
import { PATIENT } from "../../support/patient.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, freshPrefix, openNode, Row } from "./nodes.ts";
import { later } from "../../support/later.ts";
import { exists, type Stage, type StartStage } from "./stage.ts";

const PROCESSES = 4;
const CALLERS = 250;

/** Registers the suite for one arrangement. */
export function describeStampede(name: string, start: StartStage): void {
  describe(`A cold key that everyone asks for at once on ${name}`, () => {
    let stage: Stage;
    let counting: RedisServer;

    beforeAll(async () => {
      stage = await start();
      counting = await startRedis();
    });
    afterAll(async () => {
      await stage[Symbol.asyncDispose]();
      await counting[Symbol.asyncDispose]();
    });

    it(`is loaded once for ${PROCESSES} processes of ${CALLERS} callers`, async () => {
      const prefix = freshPrefix();
      const counter = { url: counting.url, key: prefix };
      await using stack = new AsyncDisposableStack();
      const processes = await Promise.all(
        Array.from(
          { length: PROCESSES },
          async () =>
            stack.use(
              await startLoaderProcess({ ...PATIENT, url: stage.serviceUrl, prefix }, counter),
            ),
        ),
      );
      for (const key of ["slow", "fast"]) {
        await counting.cli("DEL", prefix);
        const command = { key, callers: CALLERS, loadMs: key === "slow" ? 400 : 0 };
        await Promise.all(processes.map((process) => process.send(command)));
        for (const process of processes) {
          const { answered, values, errors } = await process.outcome();
          assertEquals({ answered, values, errors }, {
            answered: CALLERS,
            values: ["load 1"],
            errors: [],
          });
        }
        assertEquals(await counting.cli("GET", prefix), "1");
      }
    });

    it("is loaded once more, within the lease, when its loader is killed", async () => {
      const prefix = freshPrefix();
      const counter = { url: counting.url, key: prefix };
      const leaseMs = 2_000;
      const loadMs = 200;
      const options = { ...PATIENT, url: stage.serviceUrl, prefix, leaseMs, loadTimeoutMs: 1_900 };
      await using doomed = await startLoaderProcess(options, counter);
      await using first = await startLoaderProcess(options, counter);
      await using second = await startLoaderProcess(options, counter);
      await doomed.send({ key: "k", callers: 1, loadMs: 60_000 });
      await doomed.loading();
      const leasedAtMs = performance.now();
      for (const waiting of [first, second]) {
        await waiting.send({ key: "k", callers: CALLERS, loadMs });
      }
      await delay(100); // so that they wait for the lease rather than never see it
      assert(await exists(stage, `${prefix}:1:lease:{k}`));
      await doomed.kill();
      for (const waiting of [first, second]) {
        const { answered, values } = await waiting.outcome();
        assertEquals({ answered, values }, { answered: CALLERS, values: ["load 2"] });
      }
      const tookMs = performance.now() - leasedAtMs;
      assertEquals(await counting.cli("GET", prefix), "2");
      // The lease, the longest pause between two polls, the load, and a busy machine. The bound on the wait is 6,000.
      assertLessOrEqual(tookMs, leaseMs + 150 + loadMs + 2_000);
    });

    it("wakes the waiters of another node by the feed, long before they would poll", async () => {
      const prefix = freshPrefix();
      // Its first poll is 10 s away. It would look again by itself at the end of its patience, after 6.
      const runtime = { ...systemRuntime, random: () => 499.5 };
      await using holder = openNode(stage.serviceUrl, { prefix });
      await using waiter = openNode(stage.serviceUrl, { prefix, runtime });
      await coherent(holder, waiter);
      const rows = Array.from({ length: 24 }, () => new Row("value"));
      const releases = rows.map((row) => row.hold());
      const loading = rows.map((row, at) => later(holder.cache.getOrLoad(`k${at}`, row.load)));
      await Promise.all(rows.map((row) => row.wasRead()));
      const waiting = rows.map((row, at) => later(waiter.cache.getOrLoad(`k${at}`, row.load)));
      await eventually(() => assertEquals(waiter.cache.stats().redis.misses, rows.length));
      const startedAtMs = performance.now();
      for (const release of releases) release();
      await Promise.all([...loading, ...waiting]);
      assertLessOrEqual(performance.now() - startedAtMs, 4_000);
      assertEquals(rows.map(({ reads }) => reads), rows.map(() => 1));
    });

    it("is waited for by polls where no feed tells that it is there", async () => {
      const prefix = freshPrefix();
      await using holder = openNode(stage.serviceUrl, { prefix });
      await using waiter = openNode(stage.serviceUrl, { prefix });
      await coherent(holder, waiter);
      const row = new Row("value");
      const release = row.hold();
      const loading = later(holder.cache.getOrLoad("k", row.load));
      await row.wasRead();
      // No feed can be had any more: Redis refuses to track.
      const servers = await stage.primaries();
      const user = new URL(servers[0]?.serviceUrl ?? "").username;
      for (const server of servers) {
        await server.cli("ACL", "SETUSER", user, "-client|tracking");
        await server.cli("CLIENT", "KILL", "TYPE", "pubsub");
      }
      try {
        await eventually(() => assertEquals(waiter.cache.stats().coherent, false));
        const waiting = later(waiter.cache.getOrLoad("k", row.load));
        await eventually(() => assertGreater(waiter.cache.stats().redis.misses, 0));
        release();
        await loading;
        const loadedAtMs = performance.now();
        assertEquals((await waiting)?.source, "redis");
        assertEquals(row.reads, 1);
        // The longest pause between two polls, and a busy machine. The bound on the wait is 6,000.
        assertLessOrEqual(performance.now() - loadedAtMs, 150 + 3_000);
      } finally {
        for (const server of servers) await server.cli("ACL", "SETUSER", user, "+client|tracking");
      }
    });
  });
}
