import type { Redis } from "ioredis";
import { Cache, type MutationOption } from "drizzle-orm/cache/core";
import type { CacheConfig } from "drizzle-orm/cache/core/types";
import { is } from "drizzle-orm/entity";
import { getTableName, Table } from "drizzle-orm/table";

/** Drizzle's own adapter for Upstash, command by command, on a plain Redis, and without its tags. */
export class PlainRedisCache extends Cache {
  readonly #redis: Redis;
  readonly #prefix: string;

  constructor(redis: Redis, prefix: string) {
    super();
    this.#redis = redis;
    this.#prefix = prefix;
  }

  override strategy(): "all" | "explicit" {
    return "explicit";
  }

  // deno-lint-ignore no-explicit-any -- Drizzle's own type
  override async get(key: string, tables: string[]): Promise<any[] | undefined> {
    const found = await this.#redis.hget(this.#composite(tables), key);
    return found === null ? undefined : JSON.parse(found);
  }

  override async put(
    key: string,
    response: unknown,
    tables: string[],
    _isTag?: boolean,
    config?: CacheConfig,
  ): Promise<void> {
    const composite = this.#composite(tables);
    const commands = this.#redis.pipeline()
      .hset(composite, key, JSON.stringify(response))
      .expire(composite, config?.ex ?? 60);
    for (const table of tables) commands.sadd(this.#setOf(table), composite);
    await commands.exec();
  }

  override async onMutate({ tables = [] }: MutationOption): Promise<void> {
    const sets = [tables].flat()
      .map((table) => this.#setOf(is(table, Table) ? getTableName(table) : table as string));
    if (sets.length > 0) await this.#redis.del(...await this.#redis.sunion(...sets), ...sets);
  }

  #composite(tables: string[]): string {
    return `${this.#prefix}:ct:${tables.toSorted().join(",")}`;
  }

  #setOf(table: string): string {
    return `${this.#prefix}:cts:${table}`;
  }
}
