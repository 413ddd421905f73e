/**
 * The recipe of the tutorials beside Lookaside under the same load, with the faults for both.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { lookaside, recipe } from "./contenders.ts";
import { Table } from "./table.ts";
import { type Counts, Workload } from "./workload.ts";

/** Duration of an outage of Redis. */
const AWAY_MS = 5_000;
/** Time for which rows are written after Redis saved its file, which is then outdated. */
const AGEING_MS = 1_500;
/** Number of events that are shown. */
const EVENTS_MAX = 6;

/** The caches, by their names on the page. */
const CACHES = ["The tutorials' recipe", "Lookaside"] as const;

/** An empty database. */
export interface ScratchDatabase extends AsyncDisposable {
  /** Its address. */
  readonly url: string;
  /** True if Postgres notifies listeners, which PGlite behind a socket does not. */
  readonly listens: boolean;
}

/** The environment of the caches. */
export interface Surroundings {
  /** Creates a database. It is disposed of when the load ends. */
  openDatabase(): Promise<ScratchDatabase>;
  /** True if `redis-server` is on the PATH. */
  hasRedisServer(): Promise<boolean>;
  /** The Redis that is in use, for a machine without `redis-server`; otherwise `memory:`. */
  readonly redisUrl: string;
}

/** A fault for the caches' servers. */
export interface Deed {
  readonly id: string;
  readonly label: string;
  /** The reason why it cannot be caused; absent if it can. */
  readonly refused?: string;
}

/** The counts of a cache. */
export interface Figures extends Omit<Counts, "lastStaleAtMs"> {
  readonly name: string;
  /** Time since the last stale answer; `null`: there was none. */
  readonly sinceStaleMs: number | null;
}

/** The content of the page. */
export interface State {
  /** True while the load runs. */
  readonly running: boolean;
  /** The fault that is being caused. */
  readonly busy?: string;
  /** The reason why nothing can be run here. */
  readonly unavailable?: string;
  readonly caches: readonly Figures[];
  readonly deeds: readonly Deed[];
  /** The latest events, newest first. */
  readonly events: readonly { readonly atMs: number; readonly text: string }[];
}

/** Everything that runs between the start and the stop of the load. */
interface Running extends AsyncDisposable {
  readonly workload: Workload;
  readonly redis: Redis;
  /** The Redis, if this program has started it. */
  readonly server: RedisServer | undefined;
}

const NOT_OURS =
  "This Redis was not started by the program; with redis-server on the PATH it starts its own";
const NO_REDIS =
  "There is no Redis to break. Install redis-server (Debian: apt install redis-server)";

/** The caches, their load, and the events. */
export class BreakIt implements AsyncDisposable {
  readonly #surroundings: Surroundings;
  readonly #events: { atMs: number; text: string }[] = [];
  #running: Running | undefined;
  #busy: string | undefined;
  #hasServer: Promise<boolean> | undefined;
  #figures: readonly Figures[] = CACHES.map((name) => ({
    name,
    reads: 0,
    stale: 0,
    queries: 0,
    failed: 0,
    sinceStaleMs: null,
  }));

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  /** The content of the page. */
  async state(): Promise<State> {
    const owns = await (this.#hasServer ??= this.#surroundings.hasRedisServer());
    const canRun = owns || this.#surroundings.redisUrl.startsWith("redis://");
    const counts = this.#running?.workload.counts();
    if (counts !== undefined) {
      this.#figures = [...counts].map(([name, { lastStaleAtMs, ...of }]) => ({
        ...of,
        name,
        sinceStaleMs: lastStaleAtMs === undefined ? null : performance.now() - lastStaleAtMs,
      }));
    }
    const refused = owns ? {} : { refused: NOT_OURS };
    return {
      running: this.#running !== undefined,
      ...this.#busy === undefined ? {} : { busy: this.#busy },
      ...canRun ? {} : { unavailable: NO_REDIS },
      caches: this.#figures,
      deeds: [
        { id: "stop-redis", label: "Stop Redis for 5 s", ...refused },
        { id: "kill-feed", label: "Kill the feed", ...refused },
        { id: "update-past", label: "UPDATE by psql" },
        { id: "old-file", label: "Restart Redis from an old file", ...refused },
      ],
      events: this.#events,
    };
  }

  /** Runs the action of a button. Answers its result. */
  async act(id: string): Promise<string> {
    if (this.#busy !== undefined) return `Not now: ${this.#busy}`;
    const { unavailable, deeds } = await this.state();
    const refused = unavailable ?? deeds.find((deed) => deed.id === id)?.refused;
    if (refused !== undefined) return refused;
    try {
      const [busy, act] = this.#actOf(id);
      this.#busy = busy;
      this.#note(await act());
    } catch (error) {
      this.#note(`Failed: ${error instanceof Error ? error.message : error}`);
    } finally {
      this.#busy = undefined;
    }
    return this.#events[0]?.text ?? "";
  }

  /** Stops the load and its servers. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running?.[Symbol.asyncDispose]();
    this.#running = undefined;
  }

  #actOf(id: string): readonly [busy: string, act: () => Promise<string>] {
    const running = this.#running;
    if (id === "start") return ["starting", () => this.#start()];
    if (running === undefined) {
      return ["the load is not running", () => Promise.resolve("Start the load first")];
    }
    const { workload, server } = running;
    switch (id) {
      case "stop":
        return ["stopping", () => this.#stop()];
      case "reset":
        return [
          "counting anew",
          () => Promise.resolve(workload.reset()).then(() => "Counters reset"),
        ];
      case "update-past":
        return ["psql writes", () => this.#writePast(workload)];
      case "kill-feed":
        return ["the feed is killed", () => this.#killFeed(running)];
      case "stop-redis":
        return ["Redis is away", () => this.#stopRedis(server)];
      case "old-file":
        return ["Redis restarts from an old file", () => this.#restartFromOldFile(running)];
      default:
        throw new TypeError(`Cannot do ${id}: there is no such button`);
    }
  }

  async #start(): Promise<string> {
    if (this.#running !== undefined) return "The load is already running";
    await using stack = new AsyncDisposableStack();
    const server = await this.#hasServer
      ? stack.use(await startRedis({ serviceUser: false }))
      : undefined;
    const redisUrl = server?.url ?? this.#surroundings.redisUrl;
    const redis = new Redis(redisUrl);
    redis.on("error", () => undefined);
    stack.defer(() => redis.disconnect());
    const database = stack.use(await this.#surroundings.openDatabase());
    const table = stack.use(await Table.create(database.url));
    const workload = stack.use(new Workload(table));
    const urls = { redis: redisUrl, database: database.url, listens: database.listens };
    await workload.add(CACHES[0], (load) => recipe(redisUrl, load));
    await workload.add(CACHES[1], (load) => lookaside(urls, load));
    workload.start();
    const opened = stack.move();
    this.#running = { workload, redis, server, [Symbol.asyncDispose]: () => opened.disposeAsync() };
    return "Both caches serve the same reads; four rows are written each second";
  }

  async #stop(): Promise<string> {
    await this.state(); // keeps the counts
    await this[Symbol.asyncDispose]();
    return "Stopped";
  }

  async #writePast(workload: Workload): Promise<string> {
    await workload.writePast();
    return "psql updated every row without telling either cache";
  }

  async #killFeed({ redis }: Running): Promise<string> {
    const lines = String(await redis.client("LIST")).split("\n");
    const feeds = lines.filter((line) => / flags=\w*B/.test(line));
    for (const line of feeds) await redis.client("KILL", "ID", /^id=(\d+)/.exec(line)?.[1] ?? "");
    return `Killed ${feeds.length} of Lookaside's connections; the recipe has no feed`;
  }

  async #stopRedis(server: RedisServer | undefined): Promise<string> {
    await server?.cli("SAVE");
    await server?.stop();
    this.#note("Redis is stopped");
    await delay(AWAY_MS);
    await server?.start();
    return "Redis is back, with its data";
  }

  async #restartFromOldFile({ server }: Running): Promise<string> {
    await server?.cli("SAVE");
    await delay(AGEING_MS); // rows are written meanwhile, and their keys deleted
    await server?.kill();
    await server?.start();
    return `Redis was killed and restarted with its data from ${AGEING_MS / 1_000} s earlier`;
  }

  #note(text: string): void {
    this.#events.unshift({ atMs: Date.now(), text });
    this.#events.splice(EVENTS_MAX);
  }
}
