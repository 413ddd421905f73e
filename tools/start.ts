// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task start`: runs the service with exactly the permissions that its configuration needs.
 *
 * @module
 */
import { readOptions } from "./command_line.ts";
import { type Config, ConfigError } from "../server/config.ts";
import { loadConfig } from "../server/secrets.ts";
import { cannotListen } from "../server/listener.ts";
import { configureLogging } from "../server/logging.ts";
import { ROOT, send } from "./child_process.ts";
import { misspelt } from "./misspelt.ts";
import { productionFlags } from "./permissions.ts";
import { announcedNodes } from "./redis_nodes.ts";
import { watchParent, withParent } from "../server/parent.ts";
import { Supervisor } from "../server/supervisor.ts";

const MISCONFIGURED = 2;
const FAILED = 1;

/** Time that a process has to close its resources once its requests are done. */
const CLOSE_TIMEOUT_MS = 7_000;

const COMMAND = {
  name: "deno task start",
  help: `deno task start

Runs the service with exactly the permissions its configuration needs. It is configured by environment
variables only: see .env.example. Create the database schema first, with \`deno task seed\`. On SIGTERM,
SIGINT and SIGHUP it answers the requests in progress and exits. With WORKERS above 1, SIGHUP replaces the
processes one by one instead.`,
  options: {},
} as const;

const CACHE_ARGS = ["cache", "--quiet", "--frozen", "main.ts"];

/**
 * Runs `deno` in the project's folder and answers its exit code. Stop signals are passed on, and those of
 * `passedOn`.
 */
async function runDeno(args: readonly string[], ...passedOn: Deno.Signal[]): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    stdin: "null",
  }).spawn();
  using _signals = onStop((signal) => send(child, signal), ...passedOn);
  return (await child.status).code;
}

/** Calls `listener` for each stop signal, and once `deno task` itself is gone. */
function onStop(listener: (signal: Deno.Signal) => void, ...more: Deno.Signal[]): Disposable {
  const listening = new DisposableStack();
  for (const signal of ["SIGTERM", "SIGINT", ...more] as const) {
    const onSignal = () => listener(signal);
    Deno.addSignalListener(signal, onSignal);
    listening.defer(() => Deno.removeSignalListener(signal, onSignal));
  }
  // `deno task` sets this variable. Any other parent, such as a shell, may end and leave this running.
  if (Deno.env.has("INIT_CWD")) listening.use(watchParent(() => listener("SIGTERM")));
  return listening;
}

/**
 * Runs several processes until told to stop, and answers the exit code. SIGHUP replaces them one after the
 * other, with the code of that time.
 */
async function runWorkers(config: Config, args: readonly string[]): Promise<number> {
  const { hostname, port, shutdownTimeoutMs } = config.http;
  const pretty = Deno.stdout.isTerminal();
  const logger = await configureLogging({ level: config.logLevel, pretty });
  // Processes that share a port would share it with any other program that allows sharing too.
  try {
    Deno.listen({ hostname, port }).close();
  } catch (error) {
    logger.fatal(cannotListen(config, error).message);
    return FAILED;
  }
  const stopped = Promise.withResolvers<void>();
  using _signals = onStop(() => stopped.resolve());
  const starting = Promise.withResolvers<Supervisor | number>();
  // Before there is any process to replace: without a listener the signal would end this one.
  Deno.addSignalListener("SIGHUP", async () => {
    const started = await starting.promise;
    if (typeof started === "number") return;
    // It rejects if Deno, or the folder of the code, is gone.
    if (await runDeno(CACHE_ARGS).catch(() => FAILED) === 0) started.roll();
    else {logger.error(
        "Cannot roll: the code on disk, or a package that deno.lock names, cannot be loaded",
      );}
  });
  starting.resolve(Supervisor.start({
    count: config.workers,
    args,
    cwd: ROOT,
    stopTimeoutMs: shutdownTimeoutMs + CLOSE_TIMEOUT_MS,
    logger,
  }));
  const started = await starting.promise;
  if (typeof started === "number") return started;
  await stopped.promise;
  return await started.stop() ? 0 : FAILED;
}

async function start(): Promise<number> {
  try {
    for (const line of misspelt(Deno.env.toObject())) console.error(line);
    const config = loadConfig();
    const announced = await announcedNodes(config, (line) => console.error(line));
    const flags = productionFlags(config, announced);
    const args = ["run", ...flags, "main.ts", withParent()];
    const cached = await runDeno(CACHE_ARGS);
    if (cached !== 0) return cached;
    return config.workers === 1 ? await runDeno(args, "SIGHUP") : await runWorkers(config, args);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    return MISCONFIGURED;
  }
}

if (import.meta.main) {
  readOptions(COMMAND);
  Deno.exit(await start());
}
