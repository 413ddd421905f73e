// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task dev`: the service with everything it needs, on a machine that may have nothing installed.
 *
 * `--embedded` uses the embedded servers in any case. `--data FOLDER` keeps the embedded data elsewhere than in
 * `.data/`. `--cluster` starts and uses a Redis Cluster.
 *
 * @module
 */
import { readOptions } from "../command_line.ts";
import { BREAK_IT } from "../../server/break_it.ts";
import { messageOf } from "../../server/message_of.ts";
import { type Config, ConfigError, isLoopback, parseConfig } from "../../server/config.ts";
import { loadConfig } from "../../server/secrets.ts";
import { adviceTo } from "../../db/advice.ts";
import { bringUpToDate } from "../../db/bring_up_to_date.ts";
import { isEmpty, seedUsers } from "../../db/seed_users.ts";
import { openCreated } from "../../seed.ts";
import { WITH_PARENT } from "../../server/parent.ts";
import { redactUrl } from "../../server/redact_url.ts";
import { type BackingServers, chooseServers, type Origin } from "./backing_servers.ts";
import { ChildProcess, DATA_FOLDER } from "../child_process.ts";
import {
  definedOnly,
  developmentEnvironment,
  devEnvFile,
  type Environment,
} from "../environment.ts";
import { freePort } from "../servers/free_port.ts";
import { Machine } from "./machine.ts";
import { misspelt } from "../misspelt.ts";
import { permissionFlags } from "../permissions.ts";
import { announcedNodes } from "../redis_nodes.ts";

const COMMAND = {
  name: "deno task dev",
  help: `deno task dev [--embedded] [--cluster] [--data FOLDER]

Runs the service locally and restarts it whenever a file changes. Uses the servers in REDIS_URL and
DATABASE_URL, otherwise those it finds, otherwise Docker Compose, otherwise built-in ones.

  --embedded     use the built-in ones: PGlite, and a cache in memory
  --cluster      start and use a Redis Cluster
  --data FOLDER  where the built-in Postgres keeps its data (.data)`,
  options: {
    embedded: { type: "boolean", default: false },
    cluster: { type: "boolean", default: false },
    data: { type: "string", default: DATA_FOLDER },
  },
} as const;

/** Settings that the chosen URLs already contain. */
const RESOLVED = {
  REDIS_URL_FILE: undefined,
  REDIS_SENTINEL_PASSWORD: undefined,
  REDIS_SENTINEL_PASSWORD_FILE: undefined,
  DATABASE_URL_FILE: undefined,
  DATABASE_PASSWORD: undefined,
  DATABASE_PASSWORD_FILE: undefined,
};

/** PGlite has one session, for which more connections would only queue, and delivers no notifications. */
const EMBEDDED_ENV = { DATABASE_POOL_MAX: "1", CHANGES_LISTEN: "off" };

/** The variables with which `deno task load` starts a service like this one. */
const NOTED = [
  "REDIS_URL",
  "REDIS_NODES",
  "REDIS_CA_FILE",
  "DATABASE_URL",
  "DATABASE_CA_FILE",
  "DATABASE_POOL_MAX",
  "CHANGES_LISTEN",
];

const ORIGINS: Readonly<Record<Origin, string>> = {
  configured: "configured",
  found: "found running",
  compose: "started with Docker Compose",
  embedded: "embedded",
  cluster: "three primaries and three replicas, started here",
};

const NO_REDIS_PROGRAMS =
  "Cannot start a Redis Cluster: redis-server and redis-cli are not on the " +
  "PATH (Debian: redis-server). With Docker: docker compose -f docker-compose.cluster.yml up";

/** A problem that the user can fix. The message says how. */
class SetUpError extends Error {
  override readonly name = "SetUpError";
}

/** Runs until it is told to stop, and answers the exit code. */
async function dev(args: readonly string[], stopped: AbortSignal): Promise<number> {
  const values = readOptions(COMMAND, args);
  // One process: it is restarted after every change.
  for (const line of misspelt(Deno.env.toObject())) console.log(line);
  const given = await developmentEnvironment();
  const initial = loadConfig(given);
  const env: Environment = { ...given, WORKERS: "1", ADMIN_OPEN: openTo(initial) };
  checkPortIsFree(initial);

  await using machine = new Machine({
    dataFolder: values.data,
    report: (line) => console.log(line),
  });
  if (values.cluster && !await machine.hasRedisPrograms()) throw new SetUpError(NO_REDIS_PROGRAMS);
  const servers = await chooseServers(machine, {
    configured: {
      redis: isSet(env, "REDIS_URL") ? initial.cache.url : undefined,
      postgres: isSet(env, "DATABASE_URL") ? initial.database.url : undefined,
    },
    redisUrls: [parseConfig({}).cache.url],
    postgresUrls: postgresCandidates(),
    embedded: values.embedded,
    cluster: values.cluster,
  });
  if (stopped.aborted) return 0;
  const chosen = environmentFor(servers, env);
  const config = loadConfig(chosen);
  const inserted = await prepareDatabase(config);
  if (stopped.aborted) return 0;
  await using _note = await noteServers(values.data, chosen);
  const announced = await announcedNodes(config, (line) => console.log(line));
  console.log(welcome(config, servers, inserted));

  await using panel = startPanel(servers);
  const flags = permissionFlags(config, [...announced, addressOf(panel)]);
  await using service = ChildProcess.deno(
    ["run", "--allow-all", "tools/supervised.ts", Deno.execPath(), ...serviceArgs(flags, panel)],
    { env: definedOnly(chosen) },
  );
  const untilStopped = Promise.withResolvers<number>();
  stopped.addEventListener("abort", () => untilStopped.resolve(0));
  return await Promise.race([untilStopped.promise, service.status.then(({ code }) => code)]);
}

/** A developer may write from this machine without a token, unless a proxy admits others. */
function openTo({ http }: Config): Config["http"]["adminOpen"] {
  if (http.adminOpen !== "off") return http.adminOpen;
  return isLoopback(http.hostname) && http.trustedProxies === 0 ? "loopback" : "off";
}

function isSet(env: Environment, name: "REDIS_URL" | "DATABASE_URL"): boolean {
  return Boolean(env[name] || env[`${name}_FILE`]);
}

function serviceArgs(flags: readonly string[], { url }: Panel): string[] {
  const args = [`${BREAK_IT}${url}`, WITH_PARENT];
  return ["run", "--watch", "--no-clear-screen", ...flags, "main.ts", ...args];
}

/** The program behind the dashboard's panel, and its address. */
interface Panel extends AsyncDisposable {
  readonly url: URL;
}

/** Starts the program, which itself starts nothing before its button is pressed. */
function startPanel({ redis, postgres }: BackingServers): Panel {
  const url = new URL(`http://127.0.0.1:${freePort()}/${crypto.randomUUID()}/`);
  const program = ChildProcess.deno(["run", "--allow-all", "proof/break_it/main.ts"], {
    env: {
      PANEL_URL: url.href,
      REDIS_URL: redis.url,
      // PGlite has one session: the panel's load would delay the service.
      DATABASE_URL: postgres.origin === "embedded" ? "" : postgres.url,
    },
  });
  return { url, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
}

function addressOf({ url: { hostname, port } }: Panel): { host: string; port: number } {
  return { host: hostname, port: Number(port) };
}

/** The default user with its password, then the user of this session, whom local servers often trust. */
function postgresCandidates(): string[] {
  const url = parseConfig({}).database.url;
  const user = Deno.env.get("USER") ?? Deno.env.get("USERNAME");
  if (!user) return [url];
  const asUser = new URL(url);
  asUser.username = encodeURIComponent(user);
  asUser.password = "";
  return [url, asUser.href];
}

function checkPortIsFree({ http }: Config): void {
  try {
    Deno.listen({ hostname: http.hostname, port: http.port }).close();
  } catch (error) {
    const [what, advice] = error instanceof Deno.errors.AddrInUse
      ? ["the port is in use", "Stop what uses it, or choose another: PORT=3001 deno task dev"]
      : [messageOf(error), "Are HOST and PORT right?"];
    const address = `${http.hostname}:${http.port}`;
    throw new SetUpError(`Cannot listen at ${address}: ${what}. ${advice}`, { cause: error });
  }
}

function environmentFor(servers: BackingServers, env: Environment): Environment {
  const embedded = servers.postgres.origin === "embedded";
  return {
    ...env,
    REDIS_URL: servers.redis.url,
    DATABASE_URL: servers.postgres.url,
    ...RESOLVED,
    ...(embedded ? EMBEDDED_ENV : {}),
  };
}

/** Creates the database, its schema and, if the table is empty, the sample users. Answers how many. */
async function prepareDatabase(config: Config): Promise<number> {
  try {
    await using database = await openCreated(config.database);
    await bringUpToDate(database);
    return await isEmpty(database) ? await seedUsers(database) : 0;
  } catch (error) {
    const text = `Cannot use ${redactUrl(config.database.url)}: ${messageOf(error)}${
      adviceTo(error)
    }`;
    throw new SetUpError(text, { cause: error });
  }
}

/** Notes the choice for `deno task load`, for as long as this program runs. */
async function noteServers(dataFolder: string, env: Environment): Promise<AsyncDisposable> {
  const path = devEnvFile(dataFolder);
  await Deno.mkdir(dataFolder, { recursive: true });
  const lines = NOTED
    .flatMap((name) => env[name] ? [`${name}="${env[name]}"\n`] : []);
  await Deno.writeTextFile(path, lines.join(""), { mode: 0o600 });
  return { [Symbol.asyncDispose]: () => Deno.remove(path) };
}

function welcome(config: Config, servers: BackingServers, inserted: number): string {
  const { hostname, port } = config.http;
  const base = `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
  const { redis, postgres } = servers;
  return `
  Redis     ${redactUrl(redis.url)} (${ORIGINS[redis.origin]})
  Postgres  ${redactUrl(postgres.url)} (${ORIGINS[postgres.origin]}${
    inserted > 0 ? `, ${inserted} sample users inserted` : ""
  })

  Open ${base} for the dashboard, or try, twice:
    curl ${base}/users/1
    curl '${base}/users?page=1&limit=10'
    curl ${base}/cache/stats
`;
}

async function main(): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => stop.abort());
  }
  try {
    return await dev(Deno.args, stop.signal);
  } catch (error) {
    if (!(error instanceof SetUpError || error instanceof ConfigError)) throw error;
    console.error(error.message);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main());
