import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Redis } from "ioredis";
import { Breaker, BreakerOpenError, type BreakerState } from "./breaker.ts";
import { type ConnectOptions, disconnect, DISCONNECT_MS, Feed } from "./feed.ts";
import { GetBatch } from "./get_batch.ts";
import type { Keyspace } from "./keys.ts";
import { ACQUIRE_LUA, FILL_LUA, RELEASE_LUA, SET_LUA } from "./lease.ts";
import type { Runtime } from "./runtime.ts";
import type {
  Acquired,
  AcquireOptions,
  FeedListener,
  FillOptions,
  Store,
  StoreInfo,
} from "./store.ts";
import { ROOT_TAG } from "./tags.ts";

/** A named tag that nobody changes for a day is forgotten, and its entries with it. */
const TAG_TTL_MS = 24 * 60 * 60 * 1000;

/** A connection that owes an answer for as many time-outs is given up, and another one opened. */
const SILENT_COMMANDS_MAX = 4;

/** Options of a {@linkcode RedisStore}. */
export interface RedisStoreOptions {
  /** The keys of this cache. */
  readonly keyspace: Keyspace;
  /** Time and chance. */
  readonly runtime: Runtime;
  /** How long a command may take. */
  readonly commandTimeoutMs: number;
  /** How often the feed is asked for a sign of life. */
  readonly heartbeatMs: number;
  /** Without one for this long the feed counts as lost. */
  readonly memoryLeaseMs: number;
  /** How many replicas must take an invalidation before it counts as applied. */
  readonly waitReplicas: number;
  /** Called when a command fails. */
  readonly onError: (command: string, error: unknown) => void;
  /** Called when the connection comes or goes. */
  readonly onConnection: (connected: boolean) => void;
  /** Called when the breaker changes its state. */
  readonly onBreaker: (state: BreakerState) => void;
}

/** Tier 2 on one Redis server. */
export class RedisStore implements Store {
  readonly #client: Redis;
  readonly #invalidating: Redis;
  readonly #breaker: Breaker;
  readonly #options: RedisStoreOptions;
  readonly #keyspace: Keyspace;
  readonly #connect: ConnectOptions;
  readonly #gets = new GetBatch((redisKeys) => this.#readKeys(redisKeys));
  #feed: Feed | undefined;

  /**
   * @param url `redis://` or `rediss://`, with user, password and database as usual.
   * @throws {TypeError} The URL does not parse.
   */
  constructor(url: string, options: RedisStoreOptions) {
    this.#options = options;
    this.#keyspace = options.keyspace;
    this.#connect = connectOptions(url);
    this.#breaker = new Breaker(options.runtime, { onChange: options.onBreaker });
    this.#client = this.#open(options.commandTimeoutMs);
    // WAIT holds up everything behind it on its connection, so no read may stand there.
    this.#invalidating = options.waitReplicas === 0
      ? this.#client
      : this.#open(2 * options.commandTimeoutMs);
    this.#client.on("ready", () => options.onConnection(true));
    this.#client.on("close", () => options.onConnection(false));
  }

  /** The state of the circuit breaker. */
  get breaker(): BreakerState {
    return this.#breaker.state;
  }

  get(key: string): Promise<Uint8Array | null> {
    return this.#gets.get(this.#keyspace.of(key, ""));
  }

  async acquire(key: string, lease: string, options: AcquireOptions): Promise<Acquired> {
    const seen = options.seen === undefined ? "" : Buffer.concat([Buffer.from("="), options.seen]);
    const reply = await this.#script("acquire", ACQUIRE, {
      keys: [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")],
      values: [lease, options.leaseMs, seen],
    });
    if (!Array.isArray(reply)) throw new Error("Cannot acquire lease: unexpected reply");
    const bytes = reply[1];
    return { holder: String(reply[0]), bytes: bytes instanceof Uint8Array ? bytes : null };
  }

  async fill(key: string, lease: string, options: FillOptions): Promise<boolean> {
    const stored = await this.#script("fill", FILL, {
      keys: [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")],
      values: [lease, Buffer.from(options.bytes), Math.ceil(options.ttlMs)],
    });
    return stored === 1;
  }

  async release(key: string, lease: string, cooldownMs: number): Promise<void> {
    const keys = [this.#keyspace.of(key, ":lease")];
    await this.#script("release", RELEASE, { keys, values: [lease, cooldownMs] });
  }

  async set(key: string, bytes: Uint8Array, ttlMs: number): Promise<void> {
    await this.#script("set", SET, {
      keys: [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")],
      values: [Buffer.from(bytes), Math.ceil(ttlMs)],
    });
  }

  async invalidate(keys: readonly string[]): Promise<void> {
    const keyspace = this.#keyspace;
    await Promise.all(keys.map((key) =>
      this.#send("invalidate", () =>
        this.#invalidating.unlink(
          keyspace.of(key, ""),
          keyspace.of(key, ":lease"),
          ...keyspace.ofNeighbours(key, ""),
          ...keyspace.ofNeighbours(key, ":lease"),
        ))
    ));
    await this.#replicated();
  }

  readTags(names: readonly string[]): Promise<(string | null)[]> {
    return Promise.all(
      names.map((name) =>
        this.#send("get", () => this.#client.get(this.#keyspace.of(name, ":tag")))
          .catch((error: unknown) => {
            if (isWrongType(error)) return null;
            throw error;
          })
      ),
    );
  }

  createTags(names: readonly string[], version: string): Promise<string[]> {
    return Promise.all(names.map(async (name) => {
      const key = this.#keyspace.of(name, ":tag");
      try {
        const standing = await this.#send(
          "set",
          () =>
            name === ROOT_TAG
              ? this.#client.set(key, version, "NX", "GET")
              : this.#client.set(key, version, "PX", TAG_TTL_MS, "NX", "GET"),
        );
        return standing ?? version;
      } catch (error) {
        if (!isWrongType(error)) throw error;
        await this.writeTags([name], version);
        return version;
      }
    }));
  }

  async writeTags(names: readonly string[], version: string): Promise<void> {
    await Promise.all(names.map(async (name) => {
      const key = this.#keyspace.of(name, ":tag");
      await Promise.all([
        this.#send(
          "set",
          () =>
            name === ROOT_TAG
              ? this.#invalidating.set(key, version)
              : this.#invalidating.set(key, version, "PX", TAG_TTL_MS),
        ),
        // A tag that is missing counts as changed.
        this.#send(
          "invalidate",
          () => this.#invalidating.unlink(...this.#keyspace.ofNeighbours(name, ":tag")),
        ),
      ]);
    }));
    await this.#replicated();
  }

  async addPopular(counts: readonly (readonly [key: string, count: number])[]): Promise<void> {
    const keys = [this.#keyspace.of(ROOT_TAG, ":popular"), this.#keyspace.of(ROOT_TAG, ":decayed")];
    const values = counts.flatMap(([key, count]) => [count, key]);
    await this.#script("popular", POPULAR, { keys, values });
  }

  readPopular(count: number): Promise<string[]> {
    const key = this.#keyspace.of(ROOT_TAG, ":popular");
    return this.#send("zrevrange", () => this.#client.zrevrange(key, 0, count - 1));
  }

  follow(listener: FeedListener): void {
    this.#feed = new Feed(this.#connect, {
      prefix: this.#keyspace.prefix,
      heartbeatMs: this.#options.heartbeatMs,
      silenceMsMax: this.#options.memoryLeaseMs,
    }, { listener, runtime: this.#options.runtime });
  }

  async identity(): Promise<string> {
    const info = await this.#send("info", () => this.#client.info("server"));
    const runId = /^run_id:(\w+)/m.exec(info)?.[1];
    if (runId === undefined) throw new Error("Cannot tell the server's life: INFO has no run_id");
    return runId;
  }

  async info(): Promise<StoreInfo> {
    const [info, keyspace, totalKeys] = await Promise.all([
      this.#send("info", () => this.#client.info("stats")),
      this.#send("info", () => this.#client.info("keyspace")),
      this.#send("dbsize", () => this.#client.dbsize()),
    ]);
    return { info, keyspace, totalKeys };
  }

  async close(): Promise<void> {
    const { clock } = this.#options.runtime;
    await Promise.all([
      this.#feed?.close(),
      disconnect(this.#client, clock),
      this.#invalidating === this.#client ? undefined : disconnect(this.#invalidating, clock),
    ]);
  }

  #open(commandTimeoutMs: number): Redis {
    const client = new Redis({
      ...this.#connect,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      commandTimeout: commandTimeoutMs,
      // A connection that a firewall forgot stays open for ever and answers nothing.
      socketTimeout: SILENT_COMMANDS_MAX * commandTimeoutMs,
      enableAutoPipelining: true,
      // They have waited for their turn of the event loop in the batch.
      autoPipeliningIgnoredCommands: ["get", "mget"],
      retryStrategy: (times: number) => Math.min(times * 50, 2_000),
    });
    client.on("error", (error: unknown) => this.#options.onError("connect", error));
    return client;
  }

  /**
   * Waits until enough replicas have what was just invalidated (`WAIT`), for at most the time of a
   * command. Rejects if they have not: the invalidation is owed, and made again.
   */
  async #replicated(): Promise<void> {
    const { waitReplicas, commandTimeoutMs } = this.#options;
    if (waitReplicas === 0) return;
    const count = await this.#send(
      "wait",
      () => this.#invalidating.wait(waitReplicas, commandTimeoutMs),
    );
    if (count >= waitReplicas) return;
    const error = new Error(`Cannot confirm: ${count} of ${waitReplicas} replicas have it`);
    this.#options.onError("wait", error);
    throw error;
  }

  /** In a batch a key of a foreign type reads as absent; {@linkcode ACQUIRE_LUA} takes it for that. */
  #readKeys(redisKeys: readonly string[]): Promise<readonly (Uint8Array | null)[]> {
    const [first, second] = redisKeys;
    if (first === undefined || second !== undefined) {
      return this.#send("mget", () => this.#client.mgetBuffer([...redisKeys]));
    }
    return this.#send("get", () => this.#client.getBuffer(first)).then(
      (bytes) => [bytes],
      (error: unknown) => {
        if (isWrongType(error)) return [new Uint8Array(0)];
        throw error;
      },
    );
  }

  /** Runs one command behind the breaker. An error that Redis answered is a sign of life. */
  async #send<T>(command: string, run: () => Promise<T>): Promise<T> {
    if (!this.#breaker.admit()) {
      throw new BreakerOpenError(`Cannot ${command}: the circuit breaker is open`);
    }
    try {
      const reply = await run();
      this.#breaker.succeed();
      return reply;
    } catch (error) {
      if (isReply(error)) this.#breaker.succeed();
      else this.#breaker.fail();
      if (!isReply(error) || !/^(WRONGTYPE|NOSCRIPT)/.test(error.message)) {
        this.#options.onError(command, error);
      }
      throw error;
    }
  }

  /** `EVALSHA`, and `EVAL` where the script is not known: a restart or `SCRIPT FLUSH` forgets it. */
  async #script(command: string, script: Script, args: ScriptArguments): Promise<unknown> {
    const { keys, values } = args;
    const rest = [...keys, ...values];
    const { sha, lua } = script;
    const client = this.#client as Redis & ScriptCommands;
    try {
      return await this.#send(command, () => client.evalshaBuffer(sha, keys.length, ...rest));
    } catch (error) {
      if (!isReply(error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return await this.#send(command, () => client.evalBuffer(lua, keys.length, ...rest));
    }
  }
}

/**
 * Commands that ioredis makes for every command name, and whose types it leaves out. (Its
 * `callBuffer` is typed, but loses the command's name when pipelined automatically.)
 */
interface ScriptCommands {
  evalshaBuffer(
    sha: string,
    keysCount: number,
    ...rest: (string | number | Buffer)[]
  ): Promise<unknown>;
  evalBuffer(
    lua: string,
    keysCount: number,
    ...rest: (string | number | Buffer)[]
  ): Promise<unknown>;
}

interface Script {
  readonly lua: string;
  readonly sha: string;
}

interface ScriptArguments {
  readonly keys: readonly string[];
  readonly values: readonly (string | number | Buffer)[];
}

/** How long until every read count is halved: what was popular once gives way. */
const POPULAR_HALF_LIFE_MS = 60 * 60 * 1000;
/** How many read counts are kept. */
const POPULAR_MAX = 1_000;

/** KEYS: counts, mark. ARGV: count, key, … One instance of many halves the counts, once in an hour. */
const POPULAR_LUA = `
if redis.call('SET', KEYS[2], 1, 'NX', 'PX', ${POPULAR_HALF_LIFE_MS}) then
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', 0.5)
end
for i = 1, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -${POPULAR_MAX + 1})
redis.call('PEXPIRE', KEYS[1], ${24 * POPULAR_HALF_LIFE_MS})
return 1
`;

const ACQUIRE = scriptOf(ACQUIRE_LUA);
const FILL = scriptOf(FILL_LUA);
const RELEASE = scriptOf(RELEASE_LUA);
const SET = scriptOf(SET_LUA);
const POPULAR = scriptOf(POPULAR_LUA);

function scriptOf(lua: string): Script {
  return { lua, sha: createHash("sha1").update(lua).digest("hex") };
}

function connectOptions(url: string): ConnectOptions {
  const { protocol, hostname, port, username, password, pathname } = new URL(url);
  if (protocol !== "redis:" && protocol !== "rediss:") {
    throw new TypeError(`Cannot connect to Redis: ${protocol} is not redis: or rediss:`);
  }
  return {
    host: hostname.replace(/^\[|\]$/g, ""),
    port: port === "" ? 6379 : Number(port),
    connectTimeout: 2_000,
    disconnectTimeout: DISCONNECT_MS,
    ...(username === "" ? {} : { username: decodeURIComponent(username) }),
    ...(password === "" ? {} : { password: decodeURIComponent(password) }),
    ...(pathname.length > 1 ? { db: Number(pathname.slice(1)) } : {}),
    ...(protocol === "rediss:" ? { tls: {} } : {}),
  };
}

/** Whether Redis itself answered with an error, as opposed to not answering. */
function isReply(error: unknown): error is Error {
  return error instanceof Error && error.name === "ReplyError";
}

function isWrongType(error: unknown): boolean {
  return isReply(error) && error.message.startsWith("WRONGTYPE");
}
