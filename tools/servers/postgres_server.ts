import { existsSync } from "node:fs";
import { join } from "node:path";
import { send } from "../child_process.ts";
import { freePort } from "./free_port.ts";
import { ServerProcess } from "./server_process.ts";

/** The user and group `nobody` of Debian: Postgres refuses to run as root. */
const nobody = { uid: 65534, gid: 65534 };

/** The variable with the folder for the data of temporary servers. Default: that of other temporary files. */
export const DATA_FOLDER_VARIABLE = "TEST_POSTGRES_FOLDER";

/** Options of {@linkcode startPostgres}. */
export interface PostgresOptions {
  /** More settings, as in `postgresql.conf`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** The directory of its programs. Default: that of the newest on this machine. */
  readonly binaries?: string;
}

/** A temporary Postgres on loopback: user `postgres`, no password, database `postgres`. */
export class PostgresServer extends ServerProcess {
  /** The port it listens on, also after a restart. */
  readonly port: number;
  /** `postgres://postgres@127.0.0.1:{port}/postgres`. */
  readonly url: string;

  /** Use {@linkcode startPostgres}. */
  constructor(
    binary: string,
    directory: string,
    { port, settings = {} }: Pick<PostgresOptions, "settings"> & { readonly port: number },
  ) {
    super({
      command: binary,
      args: postgresArgs(directory, { port: String(port), ...settings }),
      env: { LC_ALL: "C" },
      ...serverUser(),
      ready: /ready to accept (read-only )?connections/,
      // Fast shutdown: SIGTERM would wait for every client to leave.
      stopSignal: "SIGINT",
      ownDirectory: directory,
    });
    this.port = port;
    this.url = this.urlOf("postgres");
  }

  /** Ends it at once, as a crash does: killing only its first process would leave the others. */
  override async kill(): Promise<void> {
    const others = this.running ? childrenOf(this.pid) : [];
    await super.kill();
    for (const pid of others) send(pid, "SIGKILL");
  }

  /** Freezes all of its processes. The kernel accepts connections, which then wait. */
  override pause(): void {
    super.pause();
    for (const pid of childrenOf(this.pid)) send(pid, "SIGSTOP");
  }

  /** Resumes all of its processes. */
  override resume(): void {
    for (const pid of childrenOf(this.pid)) send(pid, "SIGCONT");
    super.resume();
  }

  /** The address of another database of this server. */
  urlOf(database: string): string {
    return `postgres://postgres@127.0.0.1:${this.port}/${database}`;
  }
}

/**
 * Starts a Postgres server on 127.0.0.1, its data in a temporary directory, tuned for speed: a crash of the
 * machine would lose all data.
 *
 * @throws {Deno.errors.NotFound} Without `binaries`: `initdb` is neither on the PATH nor in /usr/lib/postgresql.
 */
export function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  return startIn(initdb, options);
}

/** Starts a hot standby of `primary`, which `pg_promote()` makes a primary. */
export function startStandby(primary: PostgresServer): Promise<PostgresServer> {
  return startIn((binaries, directory) =>
    runAsServer(join(binaries, "pg_basebackup"), directory, [
      ...["--pgdata", join(directory, "data"), "--dbname", primary.url],
      ...["--write-recovery-conf", "--checkpoint", "fast", "--no-sync"],
    ])
  );
}

/** Starts a server with the data that `prepare` puts into its directory. */
async function startIn(
  prepare: (binaries: string, directory: string) => Promise<void>,
  options: PostgresOptions = {},
): Promise<PostgresServer> {
  const { binaries = await findPostgres() } = options;
  const dir = Deno.env.get(DATA_FOLDER_VARIABLE);
  const directory = await Deno.makeTempDir({
    ...dir === undefined ? {} : { dir },
    prefix: "lookaside_postgres_",
  });
  const server = new PostgresServer(join(binaries, "postgres"), directory, {
    ...options,
    port: freePort(),
  });
  try {
    const { user } = serverUser();
    if (user) await Deno.chown(directory, user.uid, user.gid);
    await prepare(binaries, directory);
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/**
 * The directory of the newest Postgres programs of this machine.
 *
 * @throws {Deno.errors.NotFound} There are none.
 */
export async function findPostgres(): Promise<string> {
  const installed = "/usr/lib/postgresql";
  const versions = (await namesIn(installed)).filter((name) => /^\d+$/.test(name))
    .sort((a, b) => Number(b) - Number(a));
  const candidates = [
    ...versions.map((version) => join(installed, version, "bin")),
    ...(Deno.env.get("PATH") ?? "").split(":").filter(Boolean),
  ];
  const found = candidates.find((directory) =>
    ["initdb", "postgres"].every((name) => existsSync(join(directory, name)))
  );
  if (found !== undefined) return found;
  throw new Deno.errors.NotFound(
    "Cannot find initdb and postgres: not in /usr/lib/postgresql/*/bin and not on the PATH",
  );
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(directory))).map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return [];
    }
    throw error;
  }
}

function initdb(binaries: string, directory: string): Promise<void> {
  return runAsServer(join(binaries, "initdb"), directory, [
    ...["--pgdata", join(directory, "data"), "--username", "postgres", "--auth", "trust"],
    ...["--encoding", "UTF8", "--locale", "C", "--no-sync"],
  ]);
}

/** Runs a program of Postgres that refuses to run as root. */
async function runAsServer(binary: string, cwd: string, args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(binary, {
    args: [...args],
    ...serverUser().user,
    cwd,
    stdout: "null",
  }).output();
  if (!success) throw new Error(`Cannot run ${binary}: ${new TextDecoder().decode(stderr)}`);
}

/** The user for a server that refuses to run as root. */
export function serverUser(): { user?: typeof nobody } {
  return Deno.uid() === 0 ? { user: nobody } : {};
}

/** The processes that a process has started, on Linux. */
function childrenOf(pid: number): number[] {
  return Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean)
    .map(Number);
}

function postgresArgs(directory: string, given: Readonly<Record<string, string>>): string[] {
  const settings = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: directory,
    max_connections: "200",
    shared_buffers: "32MB",
    dynamic_shared_memory_type: "mmap",
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
    autovacuum_naptime: "1h",
    // The log may be in memory, with the rest of the data.
    max_wal_size: "256MB",
    ...given,
  };
  return [
    ...["-D", join(directory, "data")],
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ];
}
