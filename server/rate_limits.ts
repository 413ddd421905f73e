/**
 * Limits on the requests of one client, counted in the Redis of the cache, so that they hold for all instances
 * together; in this process while Redis is unavailable.
 *
 * @module
 */
import { LRUCache } from "lru-cache";
import type { RateLimiterRedis } from "rate-limiter-flexible";
import { parseTopology } from "../cache/mod.ts";
import { connectRedis } from "../cache/topologies/open.ts";
import type { Allowance, Limits, RateLimiter } from "../routes/app.ts";
import type { CacheConfig, HttpConfig } from "./config.ts";

const WINDOW_MS = 60_000;
/** Limit of clients that are counted in memory. */
const CLIENTS_MAX = 10_000;
/** While Redis is unavailable, it is tried with one request per this time. */
const REST_MS = 500;

/** Options of {@linkcode RateLimits}: those of the cache, whose Redis it is. */
export interface RateLimitOptions
  extends Pick<CacheConfig, "url" | "connect" | "prefix" | "commandTimeoutMs"> {
  /** True if the cache is in use; otherwise each process counts for itself. Default true. */
  readonly enabled?: boolean;
  /** Certificates to trust for TLS. */
  readonly ca?: string;
}

/** Makes limits that share a connection. */
export class RateLimits implements AsyncDisposable {
  readonly #options: RateLimitOptions;
  #connection: ReturnType<typeof connectRedis> | undefined;

  /** Connects when the first limit is made. */
  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** The configured limits. */
  of(
    { adminRateLimit, clientRateLimit, trustedProxies }: HttpConfig,
    onUnreadable: () => void,
  ): Limits {
    return {
      onUnreadable,
      ...(adminRateLimit === 0 ? {} : { admin: this.perMinute("admin", adminRateLimit) }),
      ...(clientRateLimit === 0 ? {} : { clients: this.perMinute("client", clientRateLimit) }),
      trustedProxies,
    };
  }

  /** Allows a client `limit` requests a minute. */
  perMinute(name: string, limit: number): RateLimiter {
    const here = new LocalCounts(limit);
    void this.#connect();
    let shared: Promise<RateLimiterRedis | undefined> | undefined;
    /** 0 while Redis answers. */
    let restUntilMs = 0;
    return {
      name,
      limit,
      windowMs: WINDOW_MS,
      take: async (client) => {
        if (performance.now() < restUntilMs) return here.take(client);
        // Other requests meanwhile do not wait for this attempt.
        if (restUntilMs > 0) restUntilMs = performance.now() + REST_MS;
        shared ??= this.#counter(name, limit);
        const allowance = await takeShared(await shared, client);
        restUntilMs = allowance === undefined ? performance.now() + REST_MS : 0;
        return allowance ?? here.take(client);
      },
    };
  }

  /** Closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#connection)?.close();
  }

  /** Reports no errors, because the cache reports those of its own connection. */
  #connect(): ReturnType<typeof connectRedis> {
    const { url, enabled = true, prefix: _prefix, ...options } = this.#options;
    return this.#connection ??= connectRedis(parseTopology(enabled ? url : "memory:"), options);
  }

  /**
   * The keys are outside the prefix that the feed follows; otherwise each request would be announced to all
   * instances.
   */
  async #counter(name: string, points: number): Promise<RateLimiterRedis | undefined> {
    const connection = await this.#connect();
    if (connection === undefined) return undefined;
    // Imported on first use, so that it does not slow down the start.
    const { RateLimiterRedis } = await import("rate-limiter-flexible");
    return new RateLimiterRedis({
      storeClient: connection.client,
      points,
      duration: WINDOW_MS / 1_000,
      keyPrefix: `${this.#options.prefix}:limit:${name}`,
      rejectIfRedisNotReady: true,
      // A client beyond the limit is refused without asking Redis until the minute is over.
      inMemoryBlockOnConsumed: points + 1,
    });
  }
}

/** The count in Redis; `undefined`: Redis is unavailable. */
async function takeShared(
  counter: RateLimiterRedis | undefined,
  client: string,
): Promise<Allowance | undefined> {
  if (counter === undefined) return undefined;
  try {
    const { remainingPoints, msBeforeNext } = await counter.consume(client);
    return { allowed: true, remaining: remainingPoints, resetMs: msBeforeNext };
  } catch (refused) {
    // A client beyond the limit gets a rejection that is no Error.
    if (refused instanceof Error) return undefined;
    const { msBeforeNext } = refused as { readonly msBeforeNext: number };
    return { allowed: false, remaining: 0, resetMs: msBeforeNext };
  }
}

/** The counts of this process. */
class LocalCounts {
  readonly #limit: number;
  /** Limited: beyond the maximum, the clients with the oldest requests start again. */
  readonly #used = new LRUCache<string, { count: number }>({ max: CLIENTS_MAX, ttl: WINDOW_MS });

  constructor(limit: number) {
    this.#limit = limit;
  }

  take(client: string): Allowance {
    const used = this.#used.get(client) ?? { count: 0 };
    if (used.count++ === 0) this.#used.set(client, used);
    return {
      local: true,
      allowed: used.count <= this.#limit,
      remaining: Math.max(0, this.#limit - used.count),
      resetMs: this.#used.getRemainingTTL(client),
    };
  }
}
