import { LRUCache } from "lru-cache";
import type { Keyspace } from "../keys.ts";
import type { Clock } from "../runtime.ts";
import { ROOT_TAG } from "../tags.ts";
import type { Client } from "./connection.ts";
import type { Pipeline } from "./pipeline.ts";

/** A tag is kept for this long after the last entry that is known to carry it. */
const SPARE_MS = 24 * 60 * 60 * 1000;
/** Tags of which this process knows until when they are kept. Of others it says so again. */
const KNOWN_MAX = 10_000;
/** This often a process that keeps tags looks for those that nobody needs any more. */
const SWEEP_MS = 10 * 60 * 1000;
const SWEEP_TAGS_MAX = 500;

/**
 * Keeps the versions of tags for as long as entries carry them, and no longer.
 *
 * A time to live of Redis's own would make a tag a victim: `volatile-lru` evicts it before its entries,
 * for whoever holds its version asks for it no more, and all entries under it are lost with it. So a tag
 * has none, and until when it is needed stands in an index beside: a sorted set, which every process
 * extends as it stores entries, and now and then rids of what is over. A tag that is removed too early
 * counts as changed, which costs a load and never an old value.
 */
export class TagKeeper {
  readonly #client: Client;
  readonly #pipeline: Pipeline;
  readonly #keyspace: Keyspace;
  readonly #clock: Clock;
  /** Wall times until which tags are kept. */
  readonly #known = new LRUCache<string, number>({ max: KNOWN_MAX });
  #sweepAtMs = 0;

  constructor(
    { client, pipeline }: { readonly client: Client; readonly pipeline: Pipeline },
    keyspace: Keyspace,
    clock: Clock,
  ) {
    this.#client = client;
    this.#pipeline = pipeline;
    this.#keyspace = keyspace;
    this.#clock = clock;
  }

  /** Sees to it that tags are kept until `untilMs` (wall time). Never rejects: at worst a tag changes. */
  async keep(names: readonly string[], untilMs: number): Promise<void> {
    const short = names.filter((name) =>
      name !== ROOT_TAG && (this.#known.get(name) ?? 0) < untilMs
    );
    if (short.length === 0) return;
    const keptUntilMs = Math.ceil(untilMs + SPARE_MS);
    for (const name of short) this.#known.set(name, keptUntilMs);
    try {
      const scores = short.flatMap((name) => [keptUntilMs, name]);
      await this.#pipeline.send("zadd", () => this.#client.zadd(this.#index, "GT", ...scores));
      await this.#sweep();
    } catch (_error) {
      for (const name of short) this.#known.delete(name);
    }
  }

  async #sweep(): Promise<void> {
    const nowMs = this.#clock.now();
    if (nowMs < this.#sweepAtMs) return;
    this.#sweepAtMs = nowMs + SWEEP_MS;
    const range = ["-inf", nowMs] as const;
    const limit = ["LIMIT", 0, SWEEP_TAGS_MAX] as const;
    const over = await this.#pipeline.send(
      "zrangebyscore",
      () => this.#client.zrangebyscore(this.#index, ...range, ...limit),
    );
    await Promise.all(
      over.map((name) =>
        this.#pipeline.send("unlink", () => this.#client.unlink(this.#keyspace.of(name, ":tag")))
      ),
    );
    // A tag that was extended meanwhile stays in the index. More than one sweep takes goes with the next.
    if (over.length < SWEEP_TAGS_MAX) {
      await this.#pipeline.send(
        "zremrangebyscore",
        () => this.#client.zremrangebyscore(this.#index, ...range),
      );
      return;
    }
    await this.#pipeline.send("zrem", () => this.#client.zrem(this.#index, ...over));
    this.#sweepAtMs = nowMs;
  }

  get #index(): string {
    return this.#keyspace.of(ROOT_TAG, ":tags");
  }
}
