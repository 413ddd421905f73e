import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { GarbageServer } from "../../tests/support/garbage_server.ts";
import { type Answer, type Load, read, startLoad } from "../../tests/support/load.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import type { TestDatabase } from "../../tests/support/test_database.ts";

const usersCount = 200;

/** A read costs at most a few command timeouts (250 ms); the rest is for a busy machine. */
const slowestMsMax = 2_000;

/** Ways to lose Redis and to restore it. */
const outages: Record<string, {
  readonly lose: (redis: RedisServer) => Promise<void> | void;
  readonly regain: (redis: RedisServer) => Promise<void> | void;
}> = {
  "killed": { lose: (redis) => redis.kill(), regain: (redis) => redis.start() },
  "frozen (SIGSTOP)": { lose: (redis) => redis.pause(), regain: (redis) => redis.resume() },
  "stopped": { lose: (redis) => redis.stop().then(), regain: (redis) => redis.start() },
};

describe("the service, its Redis", () => {
  const stack = new AsyncDisposableStack();
  let database: TestDatabase;

  beforeAll(async () => {
    database = stack.use(await createSeededDatabase(usersCount));
  });
  afterAll(() => stack.disposeAsync());

  for (const [name, { lose, regain }] of Object.entries(outages)) {
    it(`${name} under requests, answers every one and recovers by itself`, async () => {
      await using redis = await startRedis({ appendOnly: true });
      await using service = await start(redis.serviceUrl);
      await using load = startReads(service);
      await load.answered(400);
      await lose(redis);
      await load.answered(400);
      await answersFromTheDatabase(service);
      await regain(redis);
      await storesInRedisAgain(service, redis);
      await load.answered(400);
      assertEquals(await load.stop(), []);
      assertLess(load.slowestMs, slowestMsMax);
    });

    it(`${name}, shows a write made meanwhile, and never again what was there before`, async () => {
      await using redis = await startRedis({ appendOnly: true });
      await using service = await start(redis.serviceUrl);
      for (let id = 1; id <= 10; id++) await cacheInUse(service, `/users/${id}`);
      await lose(redis);
      for (let id = 1; id <= 10; id++) {
        const answer = await put(service, id, `${name} ${id}`);
        assertEquals(answer.status, 200, answer.text);
      }
      await using load = startLoad({
        send: (n) => service.fetch(`/users/${n % 10 + 1}`),
        isGood: ({ status, text }) => status === 200 && text.includes(`"name":"${name} `),
      });
      await load.answered(200);
      // Redis still has the values from before the writes.
      await regain(redis);
      await storesInRedisAgain(service, redis);
      await eventually(async () => {
        for (let id = 1; id <= 10; id++) {
          assertEquals((await user(service, id)).source, "cache");
        }
      });
      await load.answered(400);
      assertEquals(await load.stop(), []);
    });
  }

  it("restarted empty over and over under requests, answers every one", async () => {
    await using redis = await startRedis();
    await using service = await start(redis.serviceUrl);
    await using load = startReads(service);
    for (let round = 0; round < 5; round++) {
      await load.answered(100);
      await redis.restart();
    }
    await storesInRedisAgain(service, redis);
    assertEquals(await load.stop(), []);
  });

  it("never there, starts, serves, writes and finds it when it comes", async () => {
    const port = freePort();
    await using service = await start(`redis://127.0.0.1:${port}`);
    await using load = startReads(service);
    await load.answered(200);
    const answer = await put(service, 150, "Written without");
    assertEquals(answer.status, 200, answer.text);
    assertEquals((await user(service, 150)).data.name, "Written without");
    await using redis = await startRedis({ port });
    await storesInRedisAgain(service, redis);
    assertEquals(await load.stop(), []);
  });

  it("a stranger that answers garbage, answers every request and stops by itself", async () => {
    for (
      const bytes of [
        "\x00\xff\x17garbage\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$-7\r\n",
        "+OK\r\n",
        ":7\r\n",
      ]
    ) {
      await using stranger = new GarbageServer(new TextEncoder().encode(bytes));
      await using service = await start(`redis://127.0.0.1:${stranger.port}`);
      await using load = startReads(service);
      await load.answered(200);
      assertGreater(stranger.answered, 0);
      const answer = await put(service, 151, "Written among strangers");
      assertEquals(answer.status, 200, answer.text);
      assertEquals((await user(service, 151)).data.name, "Written among strangers");
      assertEquals(await load.stop(), []);
      assertEquals(await service.stop(), 0, service.log);
    }
  });

  it("losing every key at any time (FLUSHALL), answers every request", async () => {
    await using redis = await startRedis();
    await using service = await start(redis.serviceUrl);
    await using load = startReads(service);
    for (let round = 0; round < 20; round++) {
      await load.answered(20);
      await redis.cli("FLUSHALL");
    }
    assertEquals(await load.stop(), []);
  });

  it("holding foreign bytes and foreign types under its keys, answers right", async () => {
    await using redis = await startRedis();
    await using service = await start(redis.serviceUrl);
    const keys = await eventually(async () => {
      await user(service, 160);
      const found = (await redis.cli("KEYS", "*users:160*")).split("\n").filter(Boolean);
      assertGreater(found.length, 0);
      return found;
    });
    for (const key of keys) {
      for (const command of [["SET", key, "foreign"], ["DEL", key], ["LPUSH", key, "foreign"]]) {
        await redis.cli(...command);
        assertEquals((await user(service, 160)).data.name, "User 160");
      }
    }
  });

  function start(redisUrl: string): Promise<Service> {
    return startService({ env: { REDIS_URL: redisUrl, DATABASE_URL: database.url } });
  }
});

/** Reads of users and pages, each of which must get 200 with the requested user. */
function startReads(service: Service): Load {
  return startLoad({
    send: (n) => {
      if (n % 20 === 0) return service.fetch(`/users?page=${n % 7 + 1}&limit=20`);
      return service.fetch(`/users/${n % (usersCount - 60) + 1}`);
    },
    isGood: ({ status, text }) => status === 200 && /^\{"source":.*"data":.*\}$/.test(text),
  });
}

/** A user that was never requested can only come from the database while Redis is down. */
async function answersFromTheDatabase(service: Service): Promise<void> {
  assertEquals((await user(service, usersCount)).source, "database");
}

/** Waits until Redis is in use again: new keys appear as users are read. */
async function storesInRedisAgain(service: Service, redis: RedisServer): Promise<void> {
  let id = usersCount - 55;
  await eventually(async () => {
    const { source } = await user(service, id);
    const [key] = (await redis.cli("KEYS", `*users:${id}*`)).split("\n").filter(Boolean);
    if (++id > usersCount - 5) id = usersCount - 55;
    assert(key !== undefined, `nothing stored; last read came from ${source}`);
  }, { deadlineMs: 20_000, everyMs: 50 });
}

interface UserAnswer {
  readonly source: string;
  readonly data: { readonly name: string };
}

async function user(service: Service, id: number): Promise<UserAnswer> {
  const answer = await read(() => service.fetch(`/users/${id}`));
  assertEquals(answer.status, 200, answer.text);
  return JSON.parse(answer.text);
}

function put(service: Service, id: number, name: string): Promise<Answer> {
  return read(() =>
    service.fetch(`/users/${id}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name, email: "user@example.com" }),
    })
  );
}
