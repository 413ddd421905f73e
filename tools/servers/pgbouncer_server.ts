import { join } from "node:path";
import { freePort } from "./free_port.ts";
import { serverUser } from "./postgres_server.ts";
import { ServerProcess, started } from "./server_process.ts";

/** A temporary PgBouncer on loopback, which pools by transaction. */
export class PgBouncer extends ServerProcess {
  /** The address of the same database through the pool. */
  readonly url: string;

  /** Use {@linkcode startPgBouncer}. */
  constructor(url: string, directory: string) {
    super({
      command: "pgbouncer",
      args: [join(directory, "pgbouncer.ini")],
      ...serverUser(),
      ready: /process up/,
      ownDirectory: directory,
    });
    this.url = url;
  }
}

/**
 * Starts a PgBouncer in front of a Postgres address with minimal settings: each transaction gets any of two
 * connections.
 *
 * @throws {Deno.errors.NotFound} `pgbouncer` is not on the PATH.
 */
export async function startPgBouncer(
  databaseUrl: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<PgBouncer> {
  const target = new URL(databaseUrl);
  const directory = await Deno.makeTempDir({ prefix: "lookaside_pgbouncer_" });
  await Deno.chmod(directory, 0o755);
  const port = freePort();
  const all = {
    listen_addr: "127.0.0.1",
    listen_port: `${port}`,
    unix_socket_dir: "",
    auth_type: "any",
    pool_mode: "transaction",
    default_pool_size: "2",
    ...settings,
  };
  const user = `user=${target.username}${target.password && ` password=${target.password}`}`;
  await Deno.writeTextFile(
    join(directory, "pgbouncer.ini"),
    `[databases]\n* = host=${target.hostname} port=${target.port} ${user}\n[pgbouncer]\n` +
      Object.entries(all).map(([name, value]) => `${name} = ${value}\n`).join(""),
  );
  const url = new URL(databaseUrl);
  url.port = `${port}`;
  return await started(new PgBouncer(url.href, directory));
}
