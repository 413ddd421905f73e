/**
 * Chooses the Redis and the Postgres for `deno task dev`, each separately: the configured one, or else one that
 * answers on its usual port, Docker Compose, or the embedded default. For Redis, `--cluster` comes before all of
 * them.
 *
 * @module
 */

/** The way in which a server was chosen. */
export type Origin = "configured" | "found" | "compose" | "embedded" | "cluster";

/** A chosen server. */
export interface BackingServer {
  /** Its address. */
  readonly url: string;
  /** The way in which it was chosen. */
  readonly origin: Origin;
}

/** The two chosen servers. */
export interface BackingServers {
  /** The shared cache. */
  readonly redis: BackingServer;
  /** The source of truth. */
  readonly postgres: BackingServer;
}

/** A service of `docker-compose.yml`. */
export type ComposeService = "redis" | "postgres";

/** The functions by which the choice looks at its environment. */
export interface Surroundings {
  /** Answers true if a Redis answers there. */
  redisAnswers(url: string): Promise<boolean>;
  /** Answers true if a Postgres there admits this user; creates the database if it is missing. */
  postgresAnswers(url: string): Promise<boolean>;
  /** Starts services with Docker Compose. Answers true if they run now. */
  startWithCompose(services: readonly ComposeService[]): Promise<boolean>;
  /** Starts a Redis Cluster from this machine's `redis-server` and answers its address. */
  startCluster(): Promise<string>;
  /** Starts the embedded Postgres and answers its address. */
  startEmbeddedPostgres(): Promise<string>;
}

export interface ChoiceOptions {
  /** Configured addresses, which are used without a check. */
  readonly configured: {
    readonly redis?: string | undefined;
    readonly postgres?: string | undefined;
  };
  /** Addresses at which to look for a Redis. Compose puts one at the first. */
  readonly redisUrls: readonly string[];
  /** Addresses and users with which to look for a Postgres. Compose puts one at the first. */
  readonly postgresUrls: readonly string[];
  /** True to use the embedded default in any case. */
  readonly embedded: boolean;
  /** True to use a Redis Cluster of this machine, even if there is another Redis. */
  readonly cluster: boolean;
}

/** Chooses both servers, and starts them if necessary. */
export async function chooseServers(
  surroundings: Surroundings,
  options: ChoiceOptions,
): Promise<BackingServers> {
  const cluster: BackingServer | undefined = options.cluster
    ? { url: await surroundings.startCluster(), origin: "cluster" }
    : undefined;
  if (options.embedded) return await complete(surroundings, { redis: cluster });
  const { configured, redisUrls, postgresUrls } = options;
  const [redis, postgres] = await Promise.all([
    cluster ?? existing(configured.redis, redisUrls, (url) => surroundings.redisAnswers(url)),
    existing(configured.postgres, postgresUrls, (url) => surroundings.postgresAnswers(url)),
  ]);
  const missing: ComposeService[] = [];
  if (redis === undefined) missing.push("redis");
  if (postgres === undefined) missing.push("postgres");
  if (missing.length === 0 || !await surroundings.startWithCompose(missing)) {
    return await complete(surroundings, { redis, postgres });
  }
  return await complete(surroundings, {
    redis: redis ?? compose(redisUrls[0]),
    postgres: postgres ?? compose(postgresUrls[0]),
  });
}

async function existing(
  configured: string | undefined,
  candidates: readonly string[],
  answers: (url: string) => Promise<boolean>,
): Promise<BackingServer | undefined> {
  if (configured !== undefined) return { url: configured, origin: "configured" };
  for (const url of candidates) {
    if (await answers(url)) return { url, origin: "found" };
  }
  return undefined;
}

function compose(url: string | undefined): BackingServer | undefined {
  return url === undefined ? undefined : { url, origin: "compose" };
}

async function complete(
  surroundings: Surroundings,
  chosen: { redis?: BackingServer | undefined; postgres?: BackingServer | undefined },
): Promise<BackingServers> {
  return {
    redis: chosen.redis ?? { url: "memory:", origin: "embedded" },
    postgres: chosen.postgres ??
      { url: await surroundings.startEmbeddedPostgres(), origin: "embedded" },
  };
}
