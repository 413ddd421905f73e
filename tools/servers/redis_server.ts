import { fileURLToPath } from "node:url";
import { freePort } from "./free_port.ts";
import { redisCli } from "./redis_cli.ts";
import { ServerProcess, started } from "./server_process.ts";

/** The rights of the service's user in production. */
const aclFile = fileURLToPath(new URL("../../ops/redis.acl", import.meta.url));
const servicePassword = "t0ken";

/** Options of {@linkcode startRedis}. */
export interface RedisOptions {
  /** True if written data survives a restart. Default false. */
  readonly appendOnly?: boolean;
  /** More arguments of `redis-server`, such as `["--maxmemory", "1mb"]`. */
  readonly args?: readonly string[];
  /** The port. Default: a free one. */
  readonly port?: number;
  /** True if there is the user of {@linkcode RedisServer.serviceUrl}. Default true. */
  readonly serviceUser?: boolean;
}

/** A temporary Redis on loopback. */
export class RedisServer extends ServerProcess {
  /** The port it listens on, also after a restart. */
  readonly port: number;
  /** `redis://127.0.0.1:{port}`, with a user that has all rights. */
  readonly url: string;
  /** The same with the user of `ops/redis.acl`, which has only the rights that the service needs. */
  readonly serviceUrl: string;

  /** Use {@linkcode startRedis}. */
  constructor(
    port: number,
    directory: string,
    { user, ...options }: RedisOptions & { readonly user: ServiceUser },
  ) {
    super({
      command: "redis-server",
      args: [
        ...redisArgs(port, directory, options),
        ...options.serviceUser ?? true ? user.args : [],
      ],
      ready: /Ready to accept connections/,
      ownDirectory: directory,
    });
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.serviceUrl = `redis://${user.name}:${servicePassword}@127.0.0.1:${port}`;
  }

  /** Runs one command through `redis-cli` and answers its raw output without the last line break. */
  async cli(...args: string[]): Promise<string> {
    return await redisCli("-p", String(this.port), "--raw", ...args);
  }
}

/**
 * Starts a Redis server on 127.0.0.1, its data in a temporary directory.
 *
 * @throws {Deno.errors.NotFound} `redis-server` is not on the PATH.
 */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_redis_" });
  const user = await readServiceUser();
  const port = options.port ?? freePort();
  return await started(new RedisServer(port, directory, { ...options, user }));
}

/** The URL of several servers with the user of their {@linkcode RedisServer.serviceUrl}. */
export function withServiceUser(url: string, servers: readonly RedisServer[]): string {
  const { username, password } = new URL(servers[0]?.serviceUrl ?? "");
  return url.replace("://", `://${username}:${password}@`);
}

function redisArgs(port: number, directory: string, options: RedisOptions): string[] {
  return [
    ...["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""],
    ...["--appendonly", options.appendOnly ? "yes" : "no", "--appendfsync", "always"],
    ...["--daemonize", "no", ...options.args ?? []],
  ];
}

/** The user of `ops/redis.acl`, as arguments of `redis-server`. */
interface ServiceUser {
  readonly name: string;
  readonly args: readonly string[];
}

/** With a password, which the file does not contain, and additional key prefixes for tests. */
async function readServiceUser(): Promise<ServiceUser> {
  const [, name = "", ...rules] = (await Deno.readTextFile(aclFile)).trim().split(/\s+/);
  return { name, args: ["--user", name, ...rules, `>${servicePassword}`, "~t*"] };
}
