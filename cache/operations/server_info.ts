/** The servers of a cache as they describe themselves, for a person to read. */
export interface StoreInfo {
  /** `INFO stats`. */
  readonly info: string;
  /** `INFO keyspace`. */
  readonly keyspace: string;
  /** `DBSIZE`. */
  readonly totalKeys: number;
}

/** Joins the answers of servers, each under its name if there are several. */
export function joinInfos(
  answers: readonly (StoreInfo & { readonly name: string })[],
  serversCount: number,
): StoreInfo {
  const titled = (of: (answer: StoreInfo) => string): string =>
    answers.map((answer) => serversCount === 1 ? of(answer) : `# ${answer.name}\r\n${of(answer)}`)
      .join("");
  return {
    info: titled(({ info }) => info),
    keyspace: titled(({ keyspace }) => keyspace),
    totalKeys: answers.reduce((total, { totalKeys }) => total + totalKeys, 0),
  };
}

/** Asks every server; unreachable ones are left out. `undefined`: none answered. */
export async function serverInfos(
  servers: readonly {
    readonly name: string;
    readonly redis: { info(): Promise<StoreInfo> } | undefined;
  }[],
): Promise<StoreInfo | undefined> {
  const asked = await Promise.allSettled(
    servers.map(async ({ name, redis }) => redis && { name, ...await redis.info() }),
  );
  const answers = asked.flatMap((answer) =>
    answer.status === "fulfilled" && answer.value !== undefined ? [answer.value] : []
  );
  return answers.length === 0 ? undefined : joinInfos(answers, servers.length);
}
