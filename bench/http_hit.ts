/**
 * The service over HTTP against bare servers, each in a process of its own.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { freePort } from "../tools/servers/free_port.ts";
import { ServerProcess } from "../tools/servers/server_process.ts";
import { type Service, startService } from "../tools/servers/service.ts";
import { type LoadGenerator, loadGenerator, type Paths } from "./http_load.ts";
import type { Contender } from "./rounds.ts";
import type { Plan } from "./row.ts";
import { USERS_COUNT } from "./users.ts";

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
  const bare = async (file: string): Promise<string> => {
    const port = freePort();
    starting.use(await startBare(file, port, redisUrl));
    return `http://127.0.0.1:${port}`;
  };
  const memory = (await service({ CACHE_PREFIX: "memory" })).url;
  const redis = (await service({ CACHE_PREFIX: "redis", CACHE_MEMORY_BYTES: "0" })).url;
  const off = (await service({ CACHE: "off" })).url;
  const constant = await bare("hono_constant.ts");
  const get = await bare("hono_redis.ts");
  const contender = contenderWith(generator);
  const plans: Plan[] = [
    {
      title: "HTTP memory hit",
      unit: "req/s",
      contenders: [
        contender("lookaside, memory hit", memory, "one user"),
        contender("bare Hono, constant", constant, "one user"),
        contender("bare Hono, the same headers", `${constant}/headers`, "one user"),
      ],
      targets: [{ of: "lookaside, memory hit", against: "bare Hono, constant", atLeast: 0.85 }],
    },
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
  const running = starting.move();
  return {
    generator: generator.name,
    plans,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function contenderWith(
  generator: LoadGenerator,
): (name: string, origin: string, paths: Paths) => Contender {
  return (name, origin, paths) => ({ name, measure: () => generator.run(origin, paths) });
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
