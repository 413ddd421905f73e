/** The servers of a cache as they describe themselves, for a person to read. */
export interface StoreInfo {
  /** `INFO stats`. */
  readonly info: string;
  /** `INFO keyspace`. */
  readonly keyspace: string;
  /** `DBSIZE`. */
  readonly totalKeys: number;
}

/** One server as it describes itself. */
export type ServerInfo = StoreInfo & { readonly name: string };

/** Joins the answers of all servers, each under its name if there are several; unreachable ones are left out. */
export async function serverInfos(
  backends: readonly { readonly redis: { infos(): Promise<readonly ServerInfo[]> } | undefined }[],
): Promise<StoreInfo | undefined> {
  const asked = await Promise.allSettled(backends.map(({ redis }) => redis?.infos() ?? []));
  const answers = asked.flatMap((answer) => answer.status === "fulfilled" ? answer.value : []);
  if (answers.length === 0) return undefined;
  const isOnly = backends.length === 1 && answers.length === 1;
  const joined = (of: (answer: StoreInfo) => string): string =>
    answers.map((answer) => isOnly ? of(answer) : `# ${answer.name}\r\n${of(answer)}`).join("");
  return {
    info: joined(({ info }) => info),
    keyspace: joined(({ keyspace }) => keyspace),
    totalKeys: answers.reduce((total, { totalKeys }) => total + totalKeys, 0),
  };
}
