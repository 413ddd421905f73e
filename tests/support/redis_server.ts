import { freePort } from "./free_port.ts";
import { redisCli } from "./redis_cli.ts";
import { ServerProcess } from "./server_process.ts";

/** Options of {@linkcode startRedis}. */
export interface RedisOptions {
  /** Whether what was written outlives a restart. Default false. */
  readonly appendOnly?: boolean;
  /** More arguments of `redis-server`, such as `["--maxmemory", "1mb"]`. */
  readonly args?: readonly string[];
  /** The port. Default: a free one. */
  readonly port?: number;
}

/** A throwaway Redis on loopback. */
export class RedisServer extends ServerProcess {
  /** The port it listens on, also after a restart. */
  readonly port: number;
  /** `redis://127.0.0.1:{port}`. */
  readonly url: string;

  /** Use {@linkcode startRedis}. */
  constructor(port: number, directory: string, options: RedisOptions) {
    super({
      command: "redis-server",
      args: redisArgs(port, directory, options),
      ready: async (process) => {
        await process.lineMatching(/Ready to accept connections/);
      },
      ownDirectory: directory,
    });
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
  }

  /** Runs one command through `redis-cli` and answers its raw output without the last line break. */
  async cli(...args: string[]): Promise<string> {
    return await redisCli("-p", String(this.port), "--raw", ...args);
  }
}

/**
 * Starts a Redis server of its own, bound to 127.0.0.1, its data in a temporary directory.
 *
 * @throws {Deno.errors.NotFound} `redis-server` is not on the PATH.
 */
export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_redis_" });
  const server = new RedisServer(options.port ?? freePort(), directory, options);
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

function redisArgs(port: number, directory: string, options: RedisOptions): string[] {
  return [
    ...["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""],
    ...["--appendonly", options.appendOnly ? "yes" : "no", "--appendfsync", "always"],
    ...["--daemonize", "no", ...options.args ?? []],
  ];
}
