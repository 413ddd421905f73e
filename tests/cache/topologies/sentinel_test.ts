/**
 * When a primary that Sentinels name is trusted. They answer what a test tells them to, on a clock that a test moves.
 */
import { assertEquals, assertGreater, assertMatch, assertRejects } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { PATIENCE } from "../../../cache/redis/connection.ts";
import { SentinelConnection } from "../../../cache/topologies/sentinel.ts";
import { Sentinels, UnreachableError } from "../../../cache/topologies/sentinels.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { FakeClock, settle } from "../../support/fake_runtime.ts";
import { startToldSentinel, type Told, type ToldSentinel } from "../../support/told_sentinel.ts";

/** Time after which a new primary is trusted. */
const SETTLED_MS = 1_250;
/** A primary that the Sentinels have known for long. */
const LONG_MS = 60_000;

describe("Sentinels.primary()", () => {
  const LEADER = { named: 7002, described: 7001, epoch: 1, reportedMs: LONG_MS };
  let clock: FakeClock;

  beforeEach(() => {
    clock = new FakeClock();
  });

  function asking(...sentinels: readonly ToldSentinel[]) {
    const servers = sentinels.map(({ address }) => address);
    const asked = new Sentinels({ servers, master: "main" }, () => PATIENCE, clock);
    // A question that a busy machine does not answer in time is repeated; the clock stands still.
    const heardFor = (ms: number) =>
      eventually(async () => assertEquals((await asked.primary()).sinceMs, ms));
    return { asked, heardFor, [Symbol.asyncDispose]: () => asked.close() };
  }

  it("counts from when the leader of a failover first named it, not from its end", async () => {
    await using leader = await startToldSentinel(LEADER);
    await using sentinels = asking(leader);
    await sentinels.heardFor(0);
    clock.jump(1_000);
    await sentinels.heardFor(1_000);
    leader.told = { named: 7002, epoch: 1, reportedMs: 0 };
    clock.jump(500);
    await sentinels.heardFor(1_500);
  });

  it("counts anew with each configuration epoch, and with each server", async () => {
    await using leader = await startToldSentinel(LEADER);
    await using sentinels = asking(leader);
    await sentinels.heardFor(0);
    for (const next of [{ epoch: 2 }, { epoch: 2, named: 7003 }]) {
      clock.jump(1_000);
      leader.told = { ...LEADER, ...next };
      await sentinels.heardFor(0);
    }
  });

  it("goes by the Sentinel that has named it for the shortest time, once most of them name it", async () => {
    const told = { named: 7002, epoch: 1, reportedMs: LONG_MS };
    const former = { named: 7001, epoch: 0, reportedMs: LONG_MS };
    await using leader = await startToldSentinel(told);
    await using second = await startToldSentinel(former);
    await using third = await startToldSentinel(former);
    await using sentinels = asking(leader, second, third);
    await sentinels.heardFor(0);
    second.told = told;
    await sentinels.heardFor(LONG_MS);
    third.told = { ...told, reportedMs: 0 };
    await sentinels.heardFor(0);
    clock.jump(100);
    await sentinels.heardFor(100);
  });

  it("connects to no other Sentinel once it is closed", async () => {
    await using other = await startToldSentinel(LEADER);
    await using leader = await startToldSentinel({ ...LEADER, other: other.address.port });
    await using silent = await startToldSentinel(undefined);
    const sentinels = asking(leader, silent);
    const asked = sentinels.asked.primary();
    await eventually(() => assertEquals(leader.answered, 1));
    for (let turn = 0; turn < 5; turn++) await settle(); // the answer arrives
    await sentinels.asked.close();
    await Promise.allSettled([asked]); // a connection that it opened now would be found as a leak
  });

  it("calls no Sentinel unreachable while this process is too busy to hear one", async () => {
    await using silent = await startToldSentinel(undefined);
    await using sentinels = asking(silent);
    await assertRejects(() => sentinels.asked.primary(), UnreachableError);
    const asked = sentinels.asked.primary();
    clock.jump(1_000);
    assertEquals(await assertRejects(() => asked) instanceof UnreachableError, false);
  });
});

/** A connection, and what it reports. */
interface Process extends AsyncDisposable {
  /** Waits until the connection proves its primary. */
  proved(): Promise<unknown>;
  /** Waits until the connection refuses to trust its primary yet. */
  refused(): Promise<unknown>;
  /** The time until which the primary is trusted. */
  untilMs: number;
  /** True while it is connected. */
  connected: boolean;
  /** What it has reported as failed. */
  readonly errors: unknown[];
}

describe("SentinelConnection", () => {
  let clock: FakeClock;
  let servers: readonly [RedisServer, RedisServer];
  let sentinels: readonly [ToldSentinel, ToldSentinel];
  let ports: readonly [number, number];
  /** What the Sentinels answer at first. */
  let lasting: Told;

  beforeEach(async () => {
    clock = new FakeClock();
    servers = await Promise.all([startRedis(), startRedis()]);
    ports = [servers[0].port, servers[1].port];
    lasting = { named: ports[0], epoch: 1, reportedMs: LONG_MS };
    sentinels = await Promise.all([startToldSentinel(lasting), startToldSentinel(lasting)]);
  });
  afterEach(async () => {
    await using stack = new AsyncDisposableStack();
    for (const each of [...servers, ...sentinels]) stack.use(each);
  });

  async function open(): Promise<Process> {
    const seeds = sentinels.map(({ address }) => address);
    const connection = new SentinelConnection({ servers: seeds, master: "main" }, () => PATIENCE, {
      commandTimeoutMs: 1_000,
      boundsCommands: true,
      clock,
      onRefused: () => undefined,
      onChange: () => undefined,
      onError: (error) => void process.errors.push(error),
      onConnection: (connected) => void (process.connected = connected),
      onConfirmed: (untilMs) => void (process.untilMs = untilMs),
    });
    const process: Process = {
      proved: () => eventually(() => connection.proved()),
      refused: () => eventually(() => assertRejects(() => connection.proved(), Error, "yet")),
      untilMs: -Infinity,
      connected: false,
      errors: [],
      [Symbol.asyncDispose]: () => connection.close(),
    };
    await eventually(() => assertEquals(process.connected, true));
    return process;
  }

  function tell(told: Partial<Told>): void {
    for (const each of sentinels) each.told = { ...lasting, ...told };
  }

  it("trusts a new primary only after every other process has ceased to trust the one before", async () => {
    await using before = await open();
    await before.proved();
    tell({ named: ports[1], described: ports[0], epoch: 2 });
    await using after = await open();
    clock.jump(SETTLED_MS - 1);
    await after.refused();
    assertEquals(after.untilMs, -Infinity);
    clock.jump(1);
    await after.proved();
    assertGreater(after.untilMs, clock.monotonicNow());
    assertGreater(clock.monotonicNow(), before.untilMs + 200, "there is no room for uneven clocks");
  });

  it("goes on trusting a primary of which a Sentinel learns late", async () => {
    await using process = await open();
    await process.proved();
    const { untilMs } = process;
    for (const told of [{ named: ports[1], epoch: 0 }, { named: ports[0], epoch: 1 }]) {
      sentinels[1].told = { ...told, reportedMs: 0 };
      clock.jump(100);
      await process.proved();
    }
    assertEquals(process.untilMs, untilMs + 200);
  });

  it("trusts a primary anew that has become it again without having been seen as a replica", async () => {
    await using process = await open();
    await process.proved();
    tell({ epoch: 3, reportedMs: 0 });
    await process.refused();
    clock.jump(SETTLED_MS);
    await process.proved();
  });

  it("goes on trusting its primary while no Sentinel answers, and says so", async () => {
    await using process = await open();
    await process.proved();
    const [one, other] = sentinels.map(({ address }) => address.port);
    await Promise.all(sentinels.map((each) => each[Symbol.asyncDispose]()));
    const nowMs = clock.monotonicNow();
    await eventually(() => {
      clock.advance(250);
      assertMatch(process.errors.join(), /no Sentinel names it .*ECONNREFUSED/);
      assertGreater(process.untilMs, nowMs + 1_000);
    });
    sentinels = await Promise.all([
      startToldSentinel(lasting, one),
      startToldSentinel(lasting, other),
    ]);
    await process.proved();
  });
});
