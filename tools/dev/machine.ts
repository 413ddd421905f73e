/**
 * Finds and starts the servers of `deno task dev` on this machine.
 *
 * @module
 */
import { connect } from "@db/driver";
import { DatabaseUnavailableError } from "../../db/database.ts";
import { ensureDatabase } from "../../db/ensure_database.ts";
import { redactUrl } from "../../server/redact_url.ts";
import type { ComposeService, Surroundings } from "./backing_servers.ts";
import { ChildProcess, succeeds } from "../child_process.ts";

const PROBE_TIMEOUT_MS = 1_000;
const PING_ANSWER_BYTES_MAX = 256;
const REDIS_PORT = 6379;
const QUESTION_TIMEOUT_MS = 10_000;

/** Options of a {@linkcode Machine}. */
export interface MachineOptions {
  /** Folder for the data of the embedded Postgres. */
  readonly dataFolder: string;
  /** Called with one line for each server that was found but cannot be used, or is being started. */
  readonly report: (line: string) => void;
}

/** The machine, with all servers that were started on it. Disposal stops them, the last one first. */
export class Machine implements Surroundings, AsyncDisposable {
  readonly #options: MachineOptions;
  readonly #started = new AsyncDisposableStack();

  /** Starts nothing before it is asked to. */
  constructor(options: MachineOptions) {
    this.#options = options;
  }

  /** Answers true if a Redis answers a PING, without a password, since the usual port of a laptop needs none. */
  async redisAnswers(url: string): Promise<boolean> {
    const answer = await ping(new URL(url));
    if (answer.startsWith("-NOAUTH")) {
      this.#options.report(
        `The Redis at ${redactUrl(url)} asks for a password: set REDIS_URL to use it.`,
      );
    }
    return answer.startsWith("+PONG");
  }

  /** Answers true if a Postgres admits us. Creates the database if it is missing. */
  async postgresAnswers(url: string): Promise<boolean> {
    try {
      await ensureDatabase(connect, url);
      return true;
    } catch (error) {
      if (error instanceof DatabaseUnavailableError) return false;
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.report(
        `The Postgres at ${redactUrl(url)} answers, but: ${reason}. Set DATABASE_URL to use it.`,
      );
      return false;
    }
  }

  /** Starts services of `docker-compose.yml` if Docker runs, and stops them on disposal. */
  async startWithCompose(services: readonly ComposeService[]): Promise<boolean> {
    if (!await succeeds("docker", ["info"], QUESTION_TIMEOUT_MS)) return false;
    this.#options.report(`Starting ${services.join(" and ")} with Docker Compose…`);
    if (!await succeeds("docker", ["compose", "up", "-d", "--wait", ...services])) {
      this.#options.report("Docker Compose could not start them.");
      return false;
    }
    this.#started.defer(async () => {
      await succeeds("docker", ["compose", "stop", ...services]);
    });
    return true;
  }

  /** Answers true if the programs of {@linkcode Machine.startCluster} are installed. */
  async hasRedisPrograms(): Promise<boolean> {
    for (const program of ["redis-server", "redis-cli"]) {
      if (!await succeeds(program, ["--version"], QUESTION_TIMEOUT_MS)) return false;
    }
    return true;
  }

  /** Starts a Redis Cluster in a child process and its children. */
  async startCluster(): Promise<string> {
    this.#options.report("Starting a Redis Cluster of three primaries and three replicas…");
    return await this.#startProgram("a Redis Cluster", ["tools/dev/local_cluster.ts"]);
  }

  /** Starts the embedded Postgres in a child process. */
  async startEmbeddedPostgres(): Promise<string> {
    this.#options.report("Starting the embedded Postgres…");
    const data = `${this.#options.dataFolder}/postgres`;
    const args = ["tools/dev/embedded_postgres.ts", "--data", data];
    return await this.#startProgram("the embedded Postgres", args);
  }

  /** Stops everything that was started. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync();
  }

  /** Runs a program of `tools/` until disposal. Answers its first line: its address. */
  async #startProgram(what: string, args: readonly string[]): Promise<string> {
    const child = ChildProcess.deno(["run", "--allow-all", ...args], { readOutput: true });
    this.#started.use(child);
    try {
      return await child.firstLine();
    } catch (cause) {
      throw new Error(`Cannot start ${what}: see above`, { cause });
    }
  }
}

/** A server's answer to a PING; empty if there is none in time. */
async function ping(url: URL): Promise<string> {
  using connection = await connectTo(url);
  if (connection === undefined) return "";
  const timer = setTimeout(() => connection.close(), PROBE_TIMEOUT_MS);
  try {
    await connection.write(new TextEncoder().encode("PING\r\n"));
    const buffer = new Uint8Array(PING_ANSWER_BYTES_MAX);
    const length = await connection.read(buffer);
    return new TextDecoder().decode(buffer.subarray(0, length ?? 0));
  } catch (_error) {
    // It disconnected, or took too long, so it is not a usable Redis.
    return "";
  } finally {
    clearTimeout(timer);
  }
}

/** `undefined`: nothing listens there. */
async function connectTo({ hostname, port }: URL): Promise<Deno.TcpConn | undefined> {
  try {
    return await Deno.connect({ hostname, port: Number(port || REDIS_PORT) });
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return undefined;
    throw error;
  }
}
