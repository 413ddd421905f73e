/**
 * Two instances of an application with one cache library, their shared servers, and the actions on them.
 *
 * @module
 */
import { setImmediate as turn, setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import type { RaceAdapter, RaceInstance } from "./adapter.ts";
import { Cleanup, using } from "./cleanup.ts";
import { type HeldLoad, WatchedDatabase } from "./database.ts";
import { History } from "./history.ts";
import { inTime } from "./in_time.ts";
import { type HeldAnswer, RedisProxy } from "./proxy.ts";
import { type OwnServer, startRedis } from "./servers.ts";

/** Numbers with equally many digits, so that no value is part of another: two for each race. */
const ITEM_IDS = Array.from({ length: 20 }, (_, at) => 101 + at);
/** Time that instances have to answer from the cache and to follow each other. */
const UP_WITHIN_MS = 5_000;
/** Time for which an old answer is permitted after a write, because messages are on their way. */
const CORRECTED_WITHIN_MS = 1_000;
/** Time that a connection has to come back. */
const RECONNECTED_WITHIN_MS = 8_000;
/** Time that an instance has to close. */
const CLOSED_WITHIN_MS = 1_000;
/** Number of later reads that are compared, so that a late fill would be seen. */
const ROUNDS = 15;
const ROUND_MS = 5;
/** Turns of the event loop after which a read has done everything that it can without an answer. */
const TURNS = 50;

/** An instance, with its connections to its servers. */
export interface Actor {
  /** Its name in histories. */
  readonly name: string;
  /** The application. */
  readonly app: RaceInstance;
  /** Its connection to Postgres. */
  readonly db: WatchedDatabase;
  /** Its connection to Redis. */
  readonly proxy: RedisProxy;
  /** True if it has sent this text to Redis. */
  hasSent(text: string): boolean;
  /** Its connections on which Redis announces changes, as of the start. */
  readonly feeds: readonly string[];
}

/** An item that only one race uses. */
export interface Item {
  readonly id: number;
  /** Its value before the write of the race. */
  readonly old: string;
  /** Its value after it. */
  readonly new: string;
}

/** The servers of one library, for all of its races. */
export class Servers implements AsyncDisposable {
  readonly redis: OwnServer;
  /** A connection to Redis that takes no part in a race. */
  readonly admin: Redis;
  readonly databaseUrl: string;
  readonly #cleanup: Cleanup;
  readonly #items: Item[];

  private constructor(redis: OwnServer, databaseUrl: string, cleanup: Cleanup) {
    this.redis = redis;
    this.admin = new Redis(redis.port);
    this.admin.on("error", () => undefined); // Redis is killed in a race
    cleanup.defer(() => Promise.resolve(this.admin.disconnect()));
    this.databaseUrl = databaseUrl;
    this.#cleanup = cleanup;
    this.#items = ITEM_IDS.map((id) => ({ id, old: `old-${id}`, new: `new-${id}` }));
  }

  /**
   * Starts a Redis, and creates a database with all items in advance, so that inserting them is not part of a race.
   */
  static async start(postgresUrl: string): Promise<Servers> {
    const cleanup = new Cleanup();
    const redis = cleanup.use(await startRedis());
    try {
      const databaseUrl = await WatchedDatabase.create(postgresUrl);
      cleanup.defer(() => WatchedDatabase.drop(databaseUrl, postgresUrl));
      const servers = new Servers(redis, databaseUrl, cleanup);
      await using(new WatchedDatabase(servers.databaseUrl), async (db) => {
        for (const { id, old } of servers.#items) await db.insert(id, old);
      });
      return servers;
    } catch (error) {
      await cleanup.run();
      throw error;
    }
  }

  /** An unused item. */
  nextItem(): Item {
    const item = this.#items.shift();
    if (item === undefined) throw new Error("Cannot go on: there are no more items");
    return item;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.run();
  }
}

/** The instances and items of one race. */
export class Stage implements AsyncDisposable {
  readonly history: History = new History();
  readonly servers: Servers;
  readonly #cleanup = new Cleanup();
  readonly #adapter: RaceAdapter;
  #actors: readonly [Actor, Actor] | undefined;
  #probe: Item | undefined;

  private constructor(adapter: RaceAdapter, servers: Servers) {
    this.#adapter = adapter;
    this.servers = servers;
  }

  /** Opens two instances, and waits until each follows the other. */
  static async open(adapter: RaceAdapter, servers: Servers): Promise<Stage> {
    const stage = new Stage(adapter, servers);
    try {
      const first = await stage.openInstance("instance 1");
      stage.#actors = [first, await stage.openInstance("instance 2")];
      await stage.#follow();
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The instances. */
  get actors(): readonly [Actor, Actor] {
    if (this.#actors === undefined) throw new Error("Cannot use the instances: they are not open");
    return this.#actors;
  }

  /** Opens another instance. */
  async openInstance(name: string): Promise<Actor> {
    const { redis, admin, databaseUrl } = this.servers;
    const before = await feedsOf(admin);
    const sent: string[] = [];
    const note = (chunk: Uint8Array) => void sent.push(new TextDecoder().decode(chunk));
    const proxy = this.#cleanup.use(await RedisProxy.start(redis.port, note));
    const db = this.#cleanup.use(new WatchedDatabase(databaseUrl));
    const app = await this.#adapter.open({
      redisUrl: `redis://127.0.0.1:${proxy.port}`,
      redis: { host: "127.0.0.1", port: proxy.port },
      db,
    });
    // Some clients wait for a server that is down before they close.
    this.#cleanup.defer(() => inTime(app.close(), CLOSED_WITHIN_MS));
    await this.#inUse({ app, db });
    // A library may subscribe only when it first publishes.
    await within(UP_WITHIN_MS, async () => !await pendingSubscriptions(admin));
    const feeds = (await feedsOf(admin)).filter((id) => !before.includes(id));
    const hasSent = (text: string) => sent.some((each) => each.includes(text));
    return { name, app, db, proxy, hasSent, feeds };
  }

  /** An unused item. */
  item(): Item {
    return this.servers.nextItem();
  }

  /** Reads an item, and records the answer. */
  async read({ name, app }: Actor, { id }: Item): Promise<string | undefined> {
    const value = await app.read(id);
    this.history.note(name, `read(${id}) -> ${value}`);
    return value;
  }

  /** Begins a read that is awaited later. */
  begin({ name, app }: Actor, { id }: Item): Promise<string | undefined> {
    this.history.note(name, `read(${id}) begins`);
    const reading = app.read(id);
    reading.catch(() => undefined); // its caller gets the error
    return reading;
  }

  /** Writes the new value of an item and waits for the acknowledgement. */
  async write({ name, app }: Actor, item: Item): Promise<void> {
    await app.write(item.id, item.new);
    this.history.note(name, `write(${item.id}, ${item.new}) is committed and acknowledged`);
  }

  /** Reads an item on both instances until every cache of the library has it. */
  async fill(item: Item): Promise<void> {
    for (let round = 0; round < ROUNDS; round++) {
      for (const { app } of this.actors) await app.read(item.id);
      await delay(ROUND_MS);
    }
    this.history.note("both", `read(${item.id}) -> ${item.old}, until it is cached`);
  }

  /** Makes an instance store an item in Redis, if its library does so. */
  async store({ app, hasSent }: Actor, item: Item): Promise<void> {
    await app.read(item.id);
    await within(UP_WITHIN_MS, () => hasSent(item.old));
    await this.servers.admin.ping(); // Redis has then read everything sent before
  }

  /**
   * Reads an item repeatedly on each instance: until the new value comes, and then for some rounds, in which an
   * old value that is stored late would be seen. Answers true if only the new one came.
   */
  async laterReads(item: Item, actors: readonly Actor[] = this.actors): Promise<boolean> {
    const answers = () => Promise.all(actors.map(({ app }) => app.read(item.id)));
    const areNew = async () => (await answers()).every((answer) => answer === item.new);
    let kept = await within(CORRECTED_WITHIN_MS, areNew);
    for (let round = 0; kept && round < ROUNDS; round++) {
      kept = await areNew();
      await delay(ROUND_MS);
    }
    const last = await answers();
    const when = kept ? `${ROUNDS} times` : `still after ${CORRECTED_WITHIN_MS} ms`;
    for (const [at, { name }] of actors.entries()) {
      this.history.note(name, `read(${item.id}) -> ${last[at]}, ${when}`);
    }
    return kept;
  }

  /** Delays the next answer of Redis to an instance that contains the value of an item. */
  holdRedis({ proxy }: Actor, item: Item): HeldAnswer {
    const decoder = new TextDecoder();
    return proxy.holdAnswer((chunk) => decoder.decode(chunk).includes(item.old));
  }

  /** Delays the next answer of Postgres to a read of an item. */
  holdPostgres({ db }: Actor): HeldLoad {
    return db.holdNext();
  }

  /** Gives running reads the time to do everything that they can without an answer. */
  async turns(): Promise<void> {
    for (let i = 0; i < TURNS; i++) await turn();
  }

  /** Closes the connections on which changes are announced to an instance. New ones are refused. */
  async cutFeed(actor: Actor): Promise<void> {
    actor.proxy.refuseNew();
    for (const id of actor.feeds) await this.servers.admin.client("KILL", "ID", id);
    this.history.note("network", `the feed of ${actor.name} is cut, and cannot reconnect`);
  }

  /** Lets an instance reconnect, and waits until changes are announced to it. */
  async restoreFeed(actor: Actor): Promise<void> {
    const wanted = this.actors.flatMap(({ feeds }) => feeds).length;
    await actor.proxy.pass();
    await this.#back(async () => (await feedsOf(this.servers.admin)).length >= wanted);
    this.history.note("network", `${actor.name} may connect again, and has its feed`);
  }

  /** Saves the data of Redis to its file. */
  async saveRedis(): Promise<void> {
    await this.servers.admin.save();
    this.history.note("Redis", "saves its file");
  }

  /** Kills Redis, restarts it from the saved file, and waits until the instances are connected. */
  async restartRedis(): Promise<void> {
    const { redis, admin } = this.servers;
    const connected = async () => (await clients(admin)).length;
    const before = await connected();
    await redis.kill();
    await redis.start();
    this.history.note("Redis", "is killed, and starts from that file");
    await this.#back(async () => await connected() >= before);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cleanup.run();
  }

  async #back(isBack: () => Promise<boolean>): Promise<void> {
    if (await within(RECONNECTED_WITHIN_MS, isBack)) return;
    this.history.note("network", `not every connection is back after ${RECONNECTED_WITHIN_MS} ms`);
  }

  /** Waits until an instance answers from its cache. */
  async #inUse({ app, db }: Pick<Actor, "app" | "db">): Promise<void> {
    const id = this.#probeId;
    await within(UP_WITHIN_MS, async () => {
      const before = db.loads;
      await app.read(id);
      return db.loads === before;
    });
  }

  /** Waits until each instance sees what the other writes. */
  async #follow(): Promise<void> {
    const [first, second] = this.actors;
    const id = this.#probeId;
    for (const [writer, reader] of [[first, second], [second, first]] as const) {
      const value = `probe-${crypto.randomUUID().slice(0, 8)}`;
      await writer.app.write(id, value);
      const follows = async () => await reader.app.read(id) === value;
      if (await within(UP_WITHIN_MS, follows)) continue;
      this.history.note(reader.name, `does not follow ${writer.name}`);
    }
  }

  get #probeId(): number {
    return (this.#probe ??= this.item()).id;
  }
}

/** The ids of connections on which Redis announces changes: subscriptions and client tracking. */
async function feedsOf(redis: Redis): Promise<string[]> {
  return (await clients(redis)).filter((line) => isFeed(line)).map((line) =>
    /^id=(\d+) /.exec(line)?.[1] ?? ""
  );
}

/** True if a connection is about to subscribe. */
async function pendingSubscriptions(redis: Redis): Promise<boolean> {
  return (await clients(redis)).some((line) =>
    / cmd=(subscribe|psubscribe)\b/.test(line) && !isFeed(line)
  );
}

async function clients(redis: Redis): Promise<string[]> {
  return String(await redis.client("LIST")).trim().split("\n");
}

function isFeed(line: string): boolean {
  return / flags=\w*[BP]/.test(line) || / p?sub=[1-9]/.test(line);
}

/** Asks until the answer is true. Answers false if it was not in time. */
async function within(deadlineMs: number, ask: () => boolean | Promise<boolean>): Promise<boolean> {
  const endsAtMs = performance.now() + deadlineMs;
  while (!await ask()) {
    if (performance.now() >= endsAtMs) return false;
    await delay(ROUND_MS);
  }
  return true;
}
