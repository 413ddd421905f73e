import { LRUCache } from "lru-cache";
import type { Keyspace } from "../keys.ts";
import type { Clock } from "../runtime.ts";
import { ROOT_TAG } from "../tags.ts";
import type { Pipeline } from "./pipeline.ts";

/** Time for which a tag is kept after the last entry known to carry it. */
const SPARE_MS = 24 * 60 * 60 * 1000;
/** Number of tags whose end this process remembers. It writes the end of others again. */
const KNOWN_MAX = 10_000;
/** Interval at which a process that stores tags removes those that are no longer needed. */
const SWEEP_MS = 10 * 60 * 1000;
const SWEEP_TAGS_MAX = 500;

/**
 * Keeps the versions of tags for as long as entries carry them, and no longer.
 *
 * A TTL would not do: `volatile-lru` would evict a tag before its entries, because a process that holds its
 * version does not read it again, and all its entries would be lost. So tags have no TTL. The time until which
 * each is needed is in a sorted set, which every process extends when it stores entries, and from which it
 * regularly removes what is over. A tag that is removed too early counts as changed, which costs a load but
 * never gives an old value.
 */
export class TagKeeper {
  readonly #pipeline: Pipeline;
  readonly #keyspace: Keyspace;
  readonly #clock: Clock;
  /** Wall times until which tags are kept. */
  readonly #known = new LRUCache<string, number>({ max: KNOWN_MAX });
  #sweepAtMs = 0;

  constructor(pipeline: Pipeline, keyspace: Keyspace, clock: Clock) {
    this.#pipeline = pipeline;
    this.#keyspace = keyspace;
    this.#clock = clock;
  }

  /**
   * Keeps tags until `untilMs` (wall time). Never rejects: at worst a tag counts as changed. `undefined`: they are
   * kept already.
   */
  keep(names: readonly string[], untilMs: number): Promise<void> | undefined {
    const short = names.filter((name) =>
      name !== ROOT_TAG && (this.#known.get(name) ?? 0) < untilMs
    );
    return short.length === 0 ? undefined : this.#extend(short, untilMs);
  }

  async #extend(short: readonly string[], untilMs: number): Promise<void> {
    const keptUntilMs = Math.ceil(untilMs + SPARE_MS);
    for (const name of short) this.#known.set(name, keptUntilMs);
    try {
      const scores = short.flatMap((name) => [keptUntilMs, name]);
      await this.#pipeline.send("zadd", (client) => client.zadd(this.#index, "GT", ...scores));
      await this.#sweep();
    } catch (_error) {
      for (const name of short) this.#known.delete(name);
    }
  }

  async #sweep(): Promise<void> {
    const nowMs = this.#clock.now();
    if (nowMs < this.#sweepAtMs) return;
    this.#sweepAtMs = nowMs + SWEEP_MS;
    const pipeline = this.#pipeline;
    const range = ["-inf", nowMs] as const;
    const limit = ["LIMIT", 0, SWEEP_TAGS_MAX] as const;
    const over = await pipeline.send(
      "zrangebyscore",
      (client) => client.zrangebyscore(this.#index, ...range, ...limit),
    );
    await Promise.all(
      over.map((name) =>
        pipeline.send("unlink", (client) => client.unlink(this.#keyspace.of(name, ":tag")))
      ),
    );
    // A tag that was extended meanwhile stays in the index. What exceeds one sweep is left to the next.
    if (over.length < SWEEP_TAGS_MAX) {
      await pipeline.send(
        "zremrangebyscore",
        (client) => client.zremrangebyscore(this.#index, ...range),
      );
      return;
    }
    await pipeline.send("zrem", (client) => client.zrem(this.#index, ...over));
    this.#sweepAtMs = nowMs;
  }

  get #index(): string {
    return this.#keyspace.of(ROOT_TAG, ":tags");
  }
}
