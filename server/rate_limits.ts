/**
 * The limits on how much one client may ask for: counted in the Redis of the cache, so that they hold for
 * all instances together, and in this process while Redis can't be asked.
 *
 * @module
 */
import { LRUCache } from "lru-cache";
import type { RateLimiterRedis } from "rate-limiter-flexible";
import { parseTopology } from "../cache/mod.ts";
import { connectRedis } from "../cache/topologies/open.ts";
import type { Allowance, Limits, RateLimiter } from "../routes/app.ts";
import type { HttpConfig } from "./config.ts";

const WINDOW_MS = 60_000;
/** How many clients are counted in memory. */
const CLIENTS_MAX = 10_000;
/** While Redis can't be asked, one request in this time finds out whether it can be again. */
const REST_MS = 500;

/** Where the limits are counted. */
export interface RateLimitOptions {
  /** The Redis of the cache, in any form, or `memory:`. */
  readonly url: string;
  /** Whether the cache is in use. Without it each process counts by itself. Default true. */
  readonly enabled?: boolean;
  /** Certificates of those who may vouch for it. */
  readonly ca?: string;
  /** Credentials of the Sentinels. */
  readonly connect?: () => { readonly sentinelPassword: string };
  /** First part of every key of the cache. */
  readonly prefix: string;
  /** How long a command may take. */
  readonly commandTimeoutMs: number;
}

/** Makes limits that share a connection. */
export class RateLimits implements AsyncDisposable {
  readonly #options: RateLimitOptions;
  #connection: ReturnType<typeof connectRedis> | undefined;

  /** Connects with the first limit that is made. */
  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /** The limits that the configuration asks for. */
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
    let away = false;
    let restUntilMs = 0;
    return {
      name,
      limit,
      windowMs: WINDOW_MS,
      take: async (client) => {
        if (performance.now() < restUntilMs) return here.take(client);
        // Nobody else waits for it while this one finds out.
        if (away) restUntilMs = performance.now() + REST_MS;
        shared ??= this.#counter(name, limit);
        const allowance = await takeShared(await shared, client);
        away = allowance === undefined;
        restUntilMs = away ? performance.now() + REST_MS : 0;
        return allowance ?? here.take(client);
      },
    };
  }

  /** Ends the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#connection)?.close();
  }

  /** Errors are not reported here: the cache reports the same of its own connection. */
  #connect(): ReturnType<typeof connectRedis> {
    const { url, enabled = true, prefix: _prefix, ...options } = this.#options;
    return this.#connection ??= connectRedis(parseTopology(enabled ? url : "memory:"), options);
  }

  /** Keys stand outside of what the cache follows, or each request would be announced to all instances. */
  async #counter(name: string, points: number): Promise<RateLimiterRedis | undefined> {
    const connection = await this.#connect();
    if (connection === undefined) return undefined;
    // Imported when first asked, so that no start waits for it.
    const { RateLimiterRedis } = await import("rate-limiter-flexible");
    return new RateLimiterRedis({
      storeClient: connection.client,
      points,
      duration: WINDOW_MS / 1_000,
      keyPrefix: `${this.#options.prefix}:limit:${name}`,
      rejectIfRedisNotReady: true,
      // Who is past the limit is refused without asking Redis until the minute is over.
      inMemoryBlockOnConsumed: points + 1,
    });
  }
}

/** What Redis says; `undefined`: it can't be asked. */
async function takeShared(
  counter: RateLimiterRedis | undefined,
  client: string,
): Promise<Allowance | undefined> {
  if (counter === undefined) return undefined;
  try {
    const { remainingPoints, msBeforeNext } = await counter.consume(client);
    return { allowed: true, remaining: remainingPoints, resetMs: msBeforeNext };
  } catch (refused) {
    // It rejects with what is left, which is no Error.
    if (refused instanceof Error) return undefined;
    const { msBeforeNext } = refused as { readonly msBeforeNext: number };
    return { allowed: false, remaining: 0, resetMs: msBeforeNext };
  }
}

/** The counts of this process alone. */
class LocalCounts {
  readonly #limit: number;
  /** Bounded: of more clients, those who asked longest ago begin anew. */
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
