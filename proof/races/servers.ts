/**
 * A separate Redis and Postgres, on Node as well as on Deno.
 *
 * @module
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chown, mkdtemp, readdir, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { Cleanup } from "./cleanup.ts";
import { inTime } from "./in_time.ts";

/** The user and group `nobody` of Debian: Postgres refuses to run as root. */
const NOBODY = { uid: 65534, gid: 65534 };
const READY_WITHIN_MS = 20_000;
const LINES_MAX = 50;

/** The program of a server, and how it is started. */
interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly directory: string;
  readonly user?: typeof NOBODY;
  /** Its output when it accepts clients. */
  readonly ready: RegExp;
}

/** A server on loopback, with its files in a directory that is removed with it. */
export class OwnServer implements AsyncDisposable {
  readonly port: number;
  readonly #program: Program;
  #child: ChildProcess | undefined;

  constructor(port: number, program: Program) {
    this.port = port;
    this.#program = program;
  }

  /** Starts it, and waits until it accepts clients. */
  async start(): Promise<void> {
    const { command, args, directory, user, ready } = this.#program;
    const child = spawn(command, args, {
      cwd: directory,
      env: { ...process.env, LC_ALL: "C" },
      stdio: ["ignore", "pipe", "pipe"],
      ...user,
    });
    this.#child = child;
    const lines: string[] = [];
    const isReady = Promise.withResolvers<void>();
    for (const input of [child.stdout, child.stderr]) {
      createInterface({ input }).on("line", (line) => {
        if (lines.push(line) > LINES_MAX) lines.shift();
        if (ready.test(line)) isReady.resolve();
      });
    }
    child.on("error", isReady.reject);
    child.on("exit", (code) => isReady.reject(new Error(`it ended with code ${code}`)));
    try {
      if (await inTime(isReady.promise, READY_WITHIN_MS)) return;
      throw new Error(`it was not ready within ${READY_WITHIN_MS} ms`);
    } catch (cause) {
      await this.kill();
      const why = cause instanceof Error ? cause.message : cause;
      throw new Error(`Cannot start ${command}: ${why}\n${lines.join("\n")}`, { cause });
    }
  }

  /** Kills it. Unsaved data is lost. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end("SIGINT"); // Postgres does not wait for its clients then
    await rm(this.#program.directory, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
}

/** Starts a Redis that saves only on command. */
export async function startRedis(): Promise<OwnServer> {
  if (!onPath("redis-server")) {
    throw new Error("Cannot race: redis-server is not on the PATH. Install Redis on this machine");
  }
  const directory = await makeDirectory("redis");
  const port = await freePort();
  const server = new OwnServer(port, {
    command: "redis-server",
    args: ["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""],
    directory,
    ready: /Ready to accept connections/,
  });
  return await started(server);
}

/** A Postgres in which databases can be created. */
export interface Postgres extends AsyncDisposable {
  /** Its address. */
  readonly url: string;
}

/** Starts a Postgres with this machine's programs. */
export async function startPostgres(): Promise<Postgres> {
  const programs = await findPostgres();
  if (programs === undefined) {
    throw new Error(
      "Cannot race: initdb and postgres are not on the PATH. Install PostgreSQL on this machine, or pass --database URL",
    );
  }
  const server = await startOwnPostgres(programs);
  return {
    url: `postgres://postgres@127.0.0.1:${server.port}/postgres`,
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

/** Starts a Postgres with user and database `postgres`, and no password. */
async function startOwnPostgres(programs: string): Promise<OwnServer> {
  const directory = await makeDirectory("postgres");
  const as = process.getuid?.() === 0 ? { user: NOBODY } : {};
  if (as.user) await chown(directory, as.user.uid, as.user.gid);
  const data = join(directory, "data");
  const initdb = ["--pgdata", data, "--username", "postgres", "--auth", "trust", "--no-sync"];
  try {
    await promisify(execFile)(
      join(programs, "initdb"),
      [...initdb, "--encoding", "UTF8", "--locale", "C"],
      { cwd: directory, ...as.user },
    );
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  const port = await freePort();
  const settings = {
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: directory,
    dynamic_shared_memory_type: "mmap",
    max_connections: "300",
    shared_buffers: "32MB",
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
  };
  const server = new OwnServer(port, {
    command: join(programs, "postgres"),
    args: [
      "-D",
      data,
      ...Object.entries(settings).flatMap(([name, to]) => ["-c", `${name}=${to}`]),
    ],
    directory,
    ...as,
    ready: /database system is ready to accept connections/,
  });
  return await started(server);
}

async function started(server: OwnServer): Promise<OwnServer> {
  const cleanup = new Cleanup();
  cleanup.use(server);
  try {
    await server.start();
    return server;
  } catch (error) {
    await cleanup.run();
    throw error;
  }
}

/** The directory of the newest Postgres programs of this machine, if there are any. */
async function findPostgres(): Promise<string | undefined> {
  const installed = "/usr/lib/postgresql"; // of Debian, which puts no `initdb` on the PATH
  const versions = existsSync(installed) ? await readdir(installed) : [];
  versions.sort((a, b) => Number(b) - Number(a));
  return [...versions.map((each) => join(installed, each, "bin")), ...path()]
    .find((each) => ["initdb", "postgres"].every((name) => existsSync(join(each, name))));
}

function onPath(name: string): boolean {
  return path().some((each) => existsSync(join(each, name)));
}

function path(): string[] {
  return (process.env["PATH"] ?? "").split(delimiter).filter(Boolean);
}

async function makeDirectory(name: string): Promise<string> {
  return await mkdtemp(join(tmpdir(), `lookaside_races_${name}_`));
}

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
