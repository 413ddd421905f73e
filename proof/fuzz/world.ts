import postgres from "postgres";
import { redisCli } from "../../tools/servers/redis_cli.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { type Service, startService } from "../../tools/servers/service.ts";
import type { Route } from "./requests.ts";
import { isKnownKey, isKnownName, isValidChange, type UserChange } from "./verdict.ts";

/** The user of the service may touch keys that begin with `la` and, in tests, `t`. */
const PREFIX = "tfuzz";
const USERS = 60;

/** Records every changed row, in the transaction of any writer. */
const NOTE_CHANGES = `
  CREATE TABLE fuzz_changes (at bigserial, op text, id int, name text, email text, bio text);
  CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'DELETE' THEN INSERT INTO fuzz_changes (op, id) VALUES (TG_OP, OLD.id);
    ELSE INSERT INTO fuzz_changes (op, id, name, email, bio)
      VALUES (TG_OP, NEW.id, NEW.name, NEW.email, NEW.bio);
    END IF;
    RETURN NULL;
  END $$;
  CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON users
    FOR EACH ROW EXECUTE FUNCTION note_change()`;

/** A service on its own servers, and its effects as seen from outside. */
export class FuzzWorld implements AsyncDisposable {
  readonly service: Service;
  /** The address of the database. */
  readonly databaseUrl: string;
  /** The database, for reading. */
  readonly sql: postgres.Sql;
  readonly #redisPort: number;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    service: Service,
    { databaseUrl, sql, redisPort, stack }: {
      readonly databaseUrl: string;
      readonly sql: postgres.Sql;
      readonly redisPort: number;
      readonly stack: AsyncDisposableStack;
    },
  ) {
    this.service = service;
    this.databaseUrl = databaseUrl;
    this.sql = sql;
    this.#redisPort = redisPort;
    this.#stack = stack;
  }

  /** Starts everything. */
  static async start(): Promise<FuzzWorld> {
    await using stack = new AsyncDisposableStack();
    const redis = stack.use(await startRedis());
    const database = stack.use(await createSeededDatabase(USERS));
    const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    stack.defer(() => sql.end({ timeout: 5 }));
    await sql.unsafe(NOTE_CHANGES);
    const service = stack.use(
      await startService({
        env: {
          REDIS_URL: redis.serviceUrl,
          DATABASE_URL: database.url,
          CACHE_PREFIX: PREFIX,
          ADMIN_RATE_LIMIT: "0",
          LOG_LEVEL: "warning",
        },
      }),
    );
    return new FuzzWorld(service, {
      databaseUrl: database.url,
      sql,
      redisPort: redis.port,
      stack: stack.move(),
    });
  }

  /** The routes in the API's description. */
  async routes(): Promise<Route[]> {
    const description = await (await this.service.fetch("/openapi.json")).json();
    return Object.entries<Record<string, { parameters?: { in: string; name: string }[] }>>(
      description.paths,
    ).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { parameters = [] }]) => ({
        path,
        method: method.toUpperCase(),
        query: parameters.filter((each) => each.in === "query").map(({ name }) => name),
      }))
    );
  }

  /** The keys in Redis, and the logical keys in its counts, that no valid request makes. */
  async unknownKeys(): Promise<{ readonly count: number; readonly unknown: string[] }> {
    const keys = await this.#redisLines("--scan");
    const names = await this.#redisLines("zrange", `${PREFIX}:1:{*}:popular`, "0", "-1");
    return {
      count: keys.length,
      unknown: [
        ...keys.filter((key) => !isKnownKey(PREFIX, key)),
        ...names.filter((name) => !isKnownName(name)),
      ],
    };
  }

  /** The changed rows, in order. */
  async changes(): Promise<UserChange[]> {
    return await this.sql`SELECT op, id, name, email, bio FROM fuzz_changes ORDER BY at`;
  }

  /** Rows that no valid request leaves. */
  async invalidChanges(): Promise<UserChange[]> {
    return (await this.changes()).filter((change) => !isValidChange(change));
  }

  /** Stops everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** Runs one command in Redis, as a user with all rights. */
  async redis(...args: string[]): Promise<string> {
    return await redisCli("-p", String(this.#redisPort), "--raw", ...args);
  }

  async #redisLines(...args: string[]): Promise<string[]> {
    const text = await this.redis(...args);
    return text === "" ? [] : text.split("\n");
  }
}
