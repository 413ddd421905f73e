/**
 * The service over HTTP against bare servers, each in a process of its own.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { freePort } from "../tools/servers/free_port.ts";
import { ServerProcess } from "../tools/servers/server_process.ts";
import { type Service, startService } from "../tools/servers/service.ts";
import { processorMs } from "./_processor_time.ts";
import { type Load, type LoadGenerator, loadGenerator, type Paths } from "./http_load.ts";
import type { Contender } from "./rounds.ts";
import type { Plan } from "./row.ts";
import { STRANGERS_COUNT, USERS_COUNT } from "./users.ts";

/** Where the service finds its servers, and how long each measurement takes. */
export interface HttpOptions {
  /** The shared cache. */
  readonly redisUrl: string;
  /** The database with the users. */
  readonly databaseUrl: string;
  /** Seconds of load per round. */
  readonly seconds: number;
}

/** Plans that share their servers. */
export interface HttpPlans extends AsyncDisposable {
  /** The program that makes the load. */
  readonly generator: string;
  /** What to measure, one after the other. */
  readonly plans: readonly Plan[];
}

/** Starts the servers. */
export async function httpPlans(options: HttpOptions): Promise<HttpPlans> {
  const { redisUrl, databaseUrl } = options;
  const generator = await loadGenerator(options.seconds);
  await using starting = new AsyncDisposableStack();
  const service = async (env: Record<string, string>): Promise<Service> => {
    const settings = { REDIS_URL: redisUrl, DATABASE_URL: databaseUrl, LOG_LEVEL: "warning" };
    const started = starting.use(await startService({ env: { ...settings, ...env } }));
    await warmUp(started);
    return started;
  };
  const bare = async (file: string): Promise<Server> => {
    const port = freePort();
    const { pid } = starting.use(await startBare(file, port, redisUrl));
    return { pid, url: `http://127.0.0.1:${port}` };
  };
  const memory = await service({ CACHE_PREFIX: "memory" });
  const redis = await service({ CACHE_PREFIX: "redis", CACHE_MEMORY_BYTES: "0" });
  const off = await service({ CACHE: "off" });
  const constant = await bare("hono_constant.ts");
  const get = await bare("hono_redis.ts");
  const servers = { memory, redis, off, constant, get };
  const plans = [
    ...memoryHitPlans(generator, servers),
    ...coldMissPlans(generator, servers),
    ...otherPlans(generator, servers),
  ];
  const running = starting.move();
  return {
    generator: generator.name,
    plans,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** The servers that are measured. */
type Servers = Readonly<Record<"memory" | "redis" | "off" | "constant" | "get", Server>>;

/** Memory hits against constants. */
function memoryHitPlans(generator: LoadGenerator, { memory, constant }: Servers): Plan[] {
  const sameHeaders = { ...constant, url: `${constant.url}/headers` };
  const contender = contenderWith(generator, rateOf);
  const processor = contenderWith(generator, processorUsOf);
  return [
    {
      title: "HTTP memory hit",
      unit: "req/s",
      contenders: [
        contender("lookaside, memory hit", memory, "one user"),
        contender("bare Hono, constant", constant, "one user"),
        contender("bare Hono, the same headers", sameHeaders, "one user"),
      ],
      targets: [{ of: "lookaside, memory hit", against: "bare Hono, constant", atLeast: 0.85 }],
    },
    {
      title: "HTTP memory hit, processor time",
      unit: "µs",
      contenders: [
        processor("lookaside, memory hit", memory, "one user"),
        processor("bare Hono, the same headers", sameHeaders, "one user"),
      ],
      targets: [
        { of: "lookaside, memory hit", against: "bare Hono, the same headers", atLeast: 0.95 },
      ],
    },
  ];
}

/** Misses of users that nobody has asked for, against no cache. */
function coldMissPlans(generator: LoadGenerator, { memory, off }: Servers): Plan[] {
  const cached = new Strangers().of(generator);
  // Without a cache each is a stranger every time.
  const uncached = new Strangers({ again: true }).of(generator);
  const cold: Paths = { behind: USERS_COUNT };
  return [
    {
      title: "HTTP cold miss",
      unit: "req/s",
      contenders: [
        contenderWith(cached, rateOf)("lookaside, cold miss", memory, cold),
        contenderWith(uncached, rateOf)("lookaside, CACHE=off", off, cold),
      ],
      targets: [{ of: "lookaside, cold miss", against: "lookaside, CACHE=off", atLeast: 0.75 }],
    },
    {
      title: "HTTP cold miss, processor time",
      unit: "µs",
      contenders: [
        contenderWith(cached, processorUsOf)("lookaside, cold miss", memory, cold),
        contenderWith(uncached, processorUsOf)("lookaside, CACHE=off", off, cold),
      ],
      targets: [{ of: "lookaside, cold miss", against: "lookaside, CACHE=off", atLeast: 1 / 1.4 }],
    },
  ];
}

/** Redis hits against a `GET`, memory hits against no cache. */
function otherPlans(generator: LoadGenerator, { memory, redis, off, get }: Servers): Plan[] {
  const contender = contenderWith(generator, rateOf);
  return [
    {
      title: "HTTP Redis hit",
      unit: "req/s",
      contenders: [
        contender("lookaside, Redis hit", redis, "all users"),
        contender("bare Hono, ioredis GET", get, "all users"),
      ],
      targets: [{ of: "lookaside, Redis hit", against: "bare Hono, ioredis GET", atLeast: 0.9 }],
    },
    {
      title: "HTTP memory hit against CACHE=off",
      unit: "req/s",
      contenders: [
        contender("lookaside, memory hit", memory, "all users"),
        contender("lookaside, CACHE=off", off, "all users"),
      ],
      targets: [{ of: "lookaside, memory hit", against: "lookaside, CACHE=off", atLeast: 4 }],
    },
  ];
}

/** A server that is measured. */
interface Server {
  readonly pid: number;
  readonly url: string;
}

/** What a measurement makes of a load. */
type Figure = (load: Load, processorMs: number) => number;

const rateOf: Figure = ({ requests, seconds }) => requests / seconds;
const processorUsOf: Figure = ({ requests }, processorMs) => 1_000 * processorMs / requests;

function contenderWith(
  generator: LoadGenerator,
  figureOf: Figure,
): (name: string, server: Server, paths: Paths) => Contender {
  return (name, server, paths) => ({
    name,
    measure: async () => {
      const before = processorMs(server.pid);
      const load = await generator.run(server.url, paths);
      return figureOf(load, processorMs(server.pid) - before);
    },
  });
}

/** Asks for each user once, over all measurements of a server, so that Postgres has to find it too. */
class Strangers {
  readonly #again: boolean;
  #behind = USERS_COUNT;

  /** @param again Whether to begin anew when all have been asked for. */
  constructor({ again = false } = {}) {
    this.#again = again;
  }

  /** Behind those that were asked for last time, with some that were under way at its end. */
  of(generator: LoadGenerator): LoadGenerator {
    return {
      name: generator.name,
      run: async (origin) => {
        const load = await generator.run(origin, { behind: this.#behind });
        this.#behind += load.requests + 1_000;
        if (this.#again && this.#behind > STRANGERS_COUNT / 2) this.#behind = USERS_COUNT;
        if (this.#behind > STRANGERS_COUNT) throw new Error("Cannot measure: no user is left");
        return load;
      },
    };
  }
}

/** Loads every user, stores it in Redis, and takes it to memory: each is asked for three times. */
async function warmUp(service: Service): Promise<void> {
  for (let pass = 0; pass < 3; pass++) {
    for (let id = 1; id <= USERS_COUNT; id++) {
      const response = await service.fetch(`/users/${id}`);
      if (!response.ok) throw new Error(`Cannot warm up: user ${id} answers ${response.status}`);
      await response.body?.cancel();
    }
  }
}

async function startBare(file: string, port: number, redisUrl: string): Promise<ServerProcess> {
  const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  const server = new ServerProcess({
    command: Deno.execPath(),
    args: [
      ...["run", "-A", "--config", path("deno.json"), path(`servers/${file}`)],
      ...[String(port), redisUrl],
    ],
    ready: async (process) => void await process.lineMatching(/Listening/),
  });
  await server.start();
  return server;
}
