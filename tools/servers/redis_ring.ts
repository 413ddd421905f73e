import { lastingPort } from "./free_port.ts";
import { type RedisServer, startRedis, withServiceUser } from "./redis_server.ts";

/** Independent servers. */
export class RedisRing implements AsyncDisposable {
  readonly #servers: RedisServer[] = [];

  /** Every server that was started and not removed, running or not. */
  get servers(): readonly RedisServer[] {
    return this.#servers;
  }

  /** `redis-ring://127.0.0.1:{port},…` of the present servers. */
  get url(): string {
    return `redis-ring://${this.#servers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  }

  /** The same for the user of `ops/redis.acl`. */
  get serviceUrl(): string {
    return withServiceUser(this.url, this.#servers);
  }

  /** The running server that has a Redis key. */
  async holderOf(redisKey: string): Promise<RedisServer> {
    for (const server of this.#servers.filter(({ running }) => running)) {
      if (await server.cli("EXISTS", redisKey) === "1") return server;
    }
    throw new Error(`Cannot name the holder of ${redisKey}: there is none`);
  }

  /** Adds a server. Its clients must get the new `url`. */
  async add(): Promise<RedisServer> {
    const server = await startRedis({ port: lastingPort() });
    this.#servers.push(server);
    return server;
  }

  /** Removes a server, and stops it. */
  async remove(server: RedisServer): Promise<void> {
    this.#servers.splice(this.#servers.indexOf(server), 1);
    await server[Symbol.asyncDispose]();
  }

  /** Stops every process, and removes its files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    for (const server of this.#servers) stack.use(server);
  }
}

/** Starts independent servers. */
export async function startRedisRing(count = 3): Promise<RedisRing> {
  await using stack = new AsyncDisposableStack();
  const ring = stack.use(new RedisRing());
  for (let at = 0; at < count; at++) await ring.add();
  stack.move();
  return ring;
}
