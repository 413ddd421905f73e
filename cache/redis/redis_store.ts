import { Buffer } from "node:buffer";
import type { Redis } from "ioredis";
import { Breaker, BreakerOpenError, type BreakerState } from "./breaker.ts";
import { Deadlines } from "./deadlines.ts";
import { disconnect, type Following } from "./feed.ts";
import { GetBatch } from "./get_batch.ts";
import { decodeEntry, encodeEntry, type Entry, storedMark } from "../entry.ts";
import type { Keyspace } from "../keys.ts";
import { ACQUIRE_LUA, FILL_LUA, RELEASE_LUA, SET_LUA } from "../lease.ts";
import { joinInfos, type StoreInfo } from "../operations/server_info.ts";
import { type KeyCount, POPULAR_LUA, type SharedCounts } from "../operations/popularity.ts";
import { isReply, isUnknownScript, isWrongType, refusesAll } from "./reply_errors.ts";
import type { Runtime } from "../runtime.ts";
import { Script, type ScriptArguments } from "./scripts.ts";
import { addressText, type Client, type Servers } from "../topologies/servers.ts";
import type { Acquired, AcquireOptions, FeedListener, Store, Stored, Successor } from "../store.ts";
import { ROOT_TAG } from "../tags.ts";

/** A named tag that nobody changes for a day is forgotten, and its entries with it. */
const TAG_TTL_MS = 24 * 60 * 60 * 1000;

const ACQUIRE = new Script(ACQUIRE_LUA);
const FILL = new Script(FILL_LUA);
const RELEASE = new Script(RELEASE_LUA);
const SET = new Script(SET_LUA);
const POPULAR = new Script(POPULAR_LUA);

/** Options of a {@linkcode RedisStore}. */
export interface RedisStoreOptions {
  /** The keys of this cache. */
  readonly keyspace: Keyspace;
  /** Time and chance. */
  readonly runtime: Runtime;
  /** Payloads of at least this many bytes are stored compressed. */
  readonly compressBytesMin: number;
  /** How long a command may take. */
  readonly commandTimeoutMs: number;
  /** How often the feed is asked for a sign of life. */
  readonly heartbeatMs: number;
  /** Without one for this long the feed counts as lost. */
  readonly memoryLeaseMs: number;
  /** Called when a command fails. */
  readonly onError: (command: string, error: unknown) => void;
  /** Called when the connection comes or goes. */
  readonly onConnection: (connected: boolean) => void;
  /** Called when the servers behind the connection are others, or fewer, or more. */
  readonly onChange: () => void;
  /** Called when the breaker changes its state. */
  readonly onBreaker: (state: BreakerState) => void;
}

/** Tier 2 on the servers of one topology. */
export class RedisStore implements Store, SharedCounts {
  readonly source = "redis";
  readonly #servers: Servers;
  readonly #client: Client;
  readonly #deadlines: Deadlines;
  readonly #breaker: Breaker;
  readonly #options: RedisStoreOptions;
  readonly #keyspace: Keyspace;
  readonly #gets = new GetBatch((redisKeys) => this.#readKeys(redisKeys));
  #feed: Following | undefined;

  constructor(servers: Servers, options: RedisStoreOptions) {
    this.#servers = servers;
    this.#options = options;
    this.#keyspace = options.keyspace;
    this.#breaker = new Breaker(options.runtime, {
      onChange: (state) => {
        // Whoever waits for the same server has waited long enough.
        if (state === "open") this.#deadlines.expireAll();
        options.onBreaker(state);
      },
    });
    const onError = (error: unknown): void => options.onError("connect", error);
    const { clock } = options.runtime;
    this.#deadlines = new Deadlines(clock, options.commandTimeoutMs);
    this.#client = servers.open(options.commandTimeoutMs, {
      onError,
      onConnection: options.onConnection,
      onChange: options.onChange,
    }, clock);
  }

  /** The state of the circuit breaker. */
  get breaker(): BreakerState {
    return this.#breaker.state;
  }

  async get(key: string): Promise<Stored | null> {
    const redisKey = this.#keyspace.of(key, "");
    const bytes =
      await (this.#servers.anySlot ? this.#gets.get(redisKey) : this.#readKey(redisKey));
    return bytes === null ? null : storedOf(bytes);
  }

  async acquire(key: string, lease: string, options: AcquireOptions): Promise<Acquired> {
    const seen = options.seen === undefined ? "" : Buffer.concat([Buffer.from("="), options.seen]);
    const reply = await this.#script("acquire", ACQUIRE, {
      keys: [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")],
      values: [lease, Math.ceil(options.leaseMs), seen],
    });
    if (!Array.isArray(reply)) throw new Error("Cannot acquire lease: unexpected reply");
    const bytes = reply[1];
    return {
      holder: String(reply[0]),
      stored: bytes instanceof Uint8Array ? storedOf(bytes) : null,
    };
  }

  async fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    const stored = await this.#script("fill", FILL, {
      keys: [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")],
      values: [lease, this.#encode(entry), this.#ttlMs(entry)],
    });
    return stored === 1;
  }

  async release(key: string, lease: string, successor?: Successor): Promise<void> {
    const keys = [this.#keyspace.of(key, ":lease")];
    const values = [lease, successor?.text ?? "", Math.ceil(successor?.ms ?? 0)];
    await this.#script("release", RELEASE, { keys, values });
  }

  async set(key: string, entry: Entry): Promise<void> {
    await this.#script("set", SET, {
      keys: [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")],
      values: [this.#encode(entry), this.#ttlMs(entry)],
    });
  }

  async invalidate(keys: readonly string[]): Promise<void> {
    const keyspace = this.#keyspace;
    await Promise.all(
      keys.map((key) =>
        this.#send("invalidate", () =>
          this.#client.unlink(
            keyspace.of(key, ""),
            keyspace.of(key, ":lease"),
            ...keyspace.ofNeighbours(key, ""),
            ...keyspace.ofNeighbours(key, ":lease"),
          ))
      ),
    );
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
              ? this.#client.set(key, version)
              : this.#client.set(key, version, "PX", TAG_TTL_MS),
        ),
        // A tag that is missing counts as changed.
        this.#send(
          "invalidate",
          () => this.#client.unlink(...this.#keyspace.ofNeighbours(name, ":tag")),
        ),
      ]);
    }));
  }

  async addPopular(counts: readonly KeyCount[]): Promise<void> {
    const keys = [this.#keyspace.of(ROOT_TAG, ":popular"), this.#keyspace.of(ROOT_TAG, ":decayed")];
    const values = counts.flatMap(([key, count]) => [count, key]);
    await this.#script("popular", POPULAR, { keys, values });
  }

  readPopular(count: number): Promise<string[]> {
    const key = this.#keyspace.of(ROOT_TAG, ":popular");
    return this.#send("zrevrange", () => this.#client.zrevrange(key, 0, count - 1));
  }

  follow(listener: FeedListener): void {
    this.#feed = this.#servers.follow(this.#client, {
      prefix: this.#keyspace.prefix,
      heartbeatMs: this.#options.heartbeatMs,
      silenceMsMax: this.#options.memoryLeaseMs,
    }, { listener, runtime: this.#options.runtime });
  }

  /**
   * Begins the feed anew, behind a failover: it may have come to the new server before the commands did,
   * and what they brought from the old one is not announced there.
   */
  followAnew(): void {
    this.#feed?.restart();
  }

  /** Tells one life of the servers from the next: differs after a restart or a failover. */
  async identity(): Promise<string> {
    const lives = (await this.#primaries()).map(async (primary) => {
      const [server, replication] = await Promise.all([
        this.#send("info", () => primary.info("server")),
        this.#send("info", () => primary.info("replication")),
      ]);
      const runId = /^run_id:(\w+)/m.exec(server)?.[1];
      if (runId === undefined) throw new Error("Cannot tell the server's life: INFO has no run_id");
      // It may be behind what its primary has acknowledged.
      if (!/^role:master/m.test(replication)) {
        throw new Error("Cannot believe Redis: it is a replica");
      }
      // A primary that was a replica for a while has another's data since, and a new one of these.
      const history = /^master_replid:(\w+)/m.exec(replication)?.[1] ?? "";
      return `${runId}/${history}`;
    });
    return (await Promise.all(lives)).sort().join(" ");
  }

  remembered(): Promise<string | null> {
    return this.#send("get", () => this.#client.get(this.#keyspace.of(ROOT_TAG, ":caught-up")));
  }

  async remember(identity: string): Promise<void> {
    const key = this.#keyspace.of(ROOT_TAG, ":caught-up");
    await this.#send("set", () => this.#client.set(key, identity));
  }

  async info(): Promise<StoreInfo> {
    const infos = await Promise.all(
      (await this.#primaries()).map(async (primary) => {
        const [info, keyspace, totalKeys] = await Promise.all([
          this.#send("info", () => primary.info("stats")),
          this.#send("info", () => primary.info("keyspace")),
          this.#send("dbsize", () => primary.dbsize()),
        ]);
        const { host = "", port = 0 } = primary.options;
        return { name: addressText({ host, port }), info, keyspace, totalKeys };
      }),
    );
    return joinInfos(infos, infos.length);
  }

  async close(): Promise<void> {
    const { clock } = this.#options.runtime;
    this.#deadlines.close();
    // First the feed: it has its own questions to the servers, for whose answers it waits.
    await this.#feed?.close();
    await disconnect(this.#client, clock);
  }

  #primaries(): Promise<readonly Redis[]> {
    return this.#deadlines.run(this.#servers.primaries(this.#client));
  }

  #encode(entry: Entry): Buffer {
    return encodeEntry(entry, this.#options.compressBytesMin);
  }

  #ttlMs({ staleUntilMs }: Entry): number {
    return Math.max(1, Math.ceil(staleUntilMs - this.#options.runtime.clock.now()));
  }

  /** In a batch a key of a foreign type reads as absent; {@linkcode ACQUIRE_LUA} takes it for that. */
  #readKeys(redisKeys: readonly string[]): Promise<readonly (Uint8Array | null)[]> {
    const [first, second] = redisKeys;
    if (first === undefined || second !== undefined) {
      return this.#send("mget", () => this.#client.mgetBuffer([...redisKeys]));
    }
    return this.#readKey(first).then((bytes) => [bytes]);
  }

  #readKey(redisKey: string): Promise<Uint8Array | null> {
    return this.#send("get", () => this.#client.getBuffer(redisKey)).catch((error: unknown) => {
      if (isWrongType(error)) return new Uint8Array(0);
      throw error;
    });
  }

  /** Runs one command behind the breaker. */
  #send<T>(command: string, run: () => Promise<T>): Promise<T> {
    if (this.#breaker.state === "closed") {
      return this.#reported(command, this.#deadlines.run(run()));
    }
    this.#probe();
    const message = `Cannot ${command}: the circuit breaker is open`;
    return Promise.reject(new BreakerOpenError(message));
  }

  /** Tells the breaker how a command went. An error that Redis answered is a sign of life. */
  async #reported<T>(command: string, running: Promise<T>): Promise<T> {
    try {
      const reply = await running;
      this.#breaker.succeed();
      return reply;
    } catch (error) {
      if (isReply(error) && !refusesAll(error)) this.#breaker.succeed();
      else this.#breaker.fail();
      if (!isWrongType(error) && !isUnknownScript(error)) this.#options.onError(command, error);
      throw error;
    }
  }

  /** When it is time, finds out whether Redis answers again. No reader waits for that. */
  #probe(): void {
    if (!this.#breaker.admit()) return;
    const rootTag = this.#keyspace.of(ROOT_TAG, ":tag");
    const answers = async (): Promise<void> => {
      const primaries = await this.#servers.primaries(this.#client);
      await Promise.all([this.#client.get(rootTag), ...primaries.map((each) => each.ping())]);
    };
    this.#reported("ping", this.#deadlines.run(answers())).catch(() => {
      // It has been reported.
    });
  }

  #script(command: string, script: Script, args: ScriptArguments): Promise<unknown> {
    return script.run(this.#client, args, (run) => this.#send(command, run));
  }
}

function storedOf(bytes: Uint8Array): Stored {
  return { entry: decodeEntry(bytes), mark: storedMark(bytes), bytes: bytes.length };
}
