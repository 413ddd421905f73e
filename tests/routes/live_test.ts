import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { settle } from "../support/fake_runtime.ts";
import { type Api, createApi } from "./api_fixture.ts";

const LISTENERS_MAX = 32;

/** The parts of a sample that the tests look at. */
interface Sample {
  readonly atMs: number;
  readonly cache: { readonly loads: number; readonly memory: { readonly hits: number } };
  readonly latencies: Readonly<
    Record<"memory" | "redis" | "database", { readonly count: number; readonly p99Ms: number }>
  >;
  readonly changes: { readonly backlog: number } | null;
  readonly popular: readonly string[];
}

/** One who looks on. */
class Listener {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(answer: Response) {
    assertEquals(answer.headers.get("content-type"), "text/event-stream");
    assert(answer.body);
    this.#reader = answer.body.getReader();
  }

  /** The next sample. `undefined`: there will be none. */
  async next(): Promise<Sample | undefined> {
    const { value } = await this.#reader.read();
    if (value === undefined) return undefined;
    const [, json = ""] = /^data: (.*)\n\n$/.exec(new TextDecoder().decode(value)) ?? [];
    return JSON.parse(json);
  }

  async leave(): Promise<void> {
    await this.#reader.cancel();
  }
}

async function listen(api: Api): Promise<Listener> {
  return new Listener(await api.send("/cache/live"));
}

describe("GET /cache/live", () => {
  it("sends a sample at once and one a second, with the figures of /cache/stats", async () => {
    await using api = createApi();
    const listener = await listen(api);
    const first = await listener.next();
    await api.send("/users/1");
    await api.send("/users/1");
    await api.clock.advance(1_000);
    const second = await listener.next();
    assertEquals(second?.atMs, (first?.atMs ?? 0) + 1_000);
    const { memory, loads } = await (await api.send("/cache/stats")).json();
    assertEquals(
      [second?.cache.memory.hits, second?.cache.loads],
      [memory.hits, loads],
    );
    assertEquals([memory.hits, loads], [1, 1]);
    assertEquals(second?.popular, ["users:1"].slice(0, second?.popular.length));
  });

  it("tells how long the answers of each source took since the last sample", async () => {
    await using api = createApi();
    const listener = await listen(api);
    await listener.next();
    await api.send("/users/1");
    await api.send("/users/1");
    await api.send("/users/2");
    await api.clock.advance(1_000);
    const { latencies } = await listener.next() ?? {};
    assertEquals(
      [latencies?.memory.count, latencies?.redis.count, latencies?.database.count],
      [1, 0, 2],
    );
    await api.clock.advance(1_000);
    assertEquals((await listener.next())?.latencies.database.count, 0);
  });

  it("samples once for all who listen, and not at all while nobody does", async () => {
    await using api = createApi();
    let samples = 0;
    const { stats } = api.cache;
    api.cache.stats = () => {
      samples++;
      return stats();
    };
    await api.clock.advance(5_000);
    assertEquals(samples, 0);
    const listeners = [await listen(api), await listen(api), await listen(api)];
    assertEquals(samples, 1);
    await api.clock.advance(2_000);
    assertEquals(samples, 3);
    for (const listener of listeners) {
      for (let i = 0; i < 3; i++) assert(await listener.next());
      await listener.leave();
    }
    const { timers } = api.clock;
    await api.clock.advance(5_000);
    assertEquals([samples, api.clock.timers], [3, timers]);
    assert(await (await listen(api)).next()); // and begins anew
    assertEquals(samples, 4);
  });

  it("refuses more listeners than it can bear, until one leaves", async () => {
    await using api = createApi();
    const listeners = await Promise.all(Array.from({ length: LISTENERS_MAX }, () => listen(api)));
    const refused = await api.send("/cache/live");
    assertEquals([refused.status, refused.headers.get("retry-after")], [503, "1"]);
    await listeners[0]?.leave();
    assert(await (await listen(api)).next());
  });

  it("lets a listener go who does not read, and keeps those who do", async () => {
    await using api = createApi();
    const idle = await listen(api);
    const busy = await listen(api);
    for (let i = 0; i < 20; i++) {
      assert(await busy.next());
      await api.clock.advance(1_000);
    }
    let held = 0;
    while (await idle.next() !== undefined) held++;
    assertEquals(held <= 8, true, `${held} samples were kept`);
    assert(await busy.next());
  });

  it("ends every stream when the service stops, and begins none", async () => {
    await using api = createApi();
    const listener = await listen(api);
    await listener.next();
    api.stop();
    assertEquals(await listener.next(), undefined);
    assertEquals((await api.send("/cache/live")).status, 503);
  });

  it("is not held up by a Postgres that does not answer", async () => {
    const asked: PromiseWithResolvers<never>[] = [];
    const stats = () => {
      const answer = Promise.withResolvers<never>();
      asked.push(answer);
      return answer.promise;
    };
    await using api = createApi({ changes: { stats } });
    const listener = await listen(api);
    for (let i = 0; i < 5; i++) {
      assertEquals((await listener.next())?.changes, null);
      await api.clock.advance(1_000);
    }
    assertEquals(asked.length, 1, "asks again before it was answered");
    asked[0]?.reject(new Error("down"));
    await settle();
    await api.clock.advance(2_000);
    assertEquals(asked.length, 2);
  });

  it("answers HEAD without beginning a stream", async () => {
    await using api = createApi();
    const { timers } = api.clock;
    const answer = await api.send("/cache/live", { method: "HEAD" });
    assertEquals([answer.status, answer.body, api.clock.timers], [200, null, timers]);
  });
});
