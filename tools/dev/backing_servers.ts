/**
 * Which Redis and which Postgres `deno task dev` uses. Each of the two is chosen by itself: what is
 * configured, else what answers on its usual port, else Docker Compose, else the embedded default. For
 * Redis, `--cluster` comes before all of them.
 *
 * @module
 */

/** How a server came to be chosen. */
export type Origin = "configured" | "found" | "compose" | "embedded" | "cluster";

/** A chosen server. */
export interface BackingServer {
  /** Its address. */
  readonly url: string;
  /** How it came to be chosen. */
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

/** What the choice asks of its surroundings. */
export interface Surroundings {
  /** Whether a Redis answers there. */
  redisAnswers(url: string): Promise<boolean>;
  /** Whether a Postgres there lets this user in, with the database made if it was missing. */
  postgresAnswers(url: string): Promise<boolean>;
  /** Starts services with Docker Compose. Answers whether they run now. */
  startWithCompose(services: readonly ComposeService[]): Promise<boolean>;
  /** Starts a Redis Cluster of this machine's `redis-server` and answers its address. */
  startCluster(): Promise<string>;
  /** Starts the embedded Postgres and answers its address. */
  startEmbeddedPostgres(): Promise<string>;
}

/** What the choice starts from. */
export interface ChoiceOptions {
  /** Addresses that were set: they are taken without a question. */
  readonly configured: {
    readonly redis?: string | undefined;
    readonly postgres?: string | undefined;
  };
  /** Where a Redis may be listening. The first is also where Compose puts one. */
  readonly redisUrls: readonly string[];
  /** Where, and as whom, a Postgres may let us in. The first is also where Compose puts one. */
  readonly postgresUrls: readonly string[];
  /** Take the embedded default whatever else there is. */
  readonly embedded: boolean;
  /** Take a Redis Cluster of this machine's own, whatever other Redis there is. */
  readonly cluster: boolean;
}

/** Chooses both servers, and starts those that have to be. */
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
