import postgres from "postgres";

/** A database of one test file. */
export interface TestDatabase extends AsyncDisposable {
  /** Its address. */
  readonly url: string;
  /** Its name. */
  readonly name: string;
}

/**
 * Creates an empty database on the server of `DATABASE_URL` (or of `serverUrl`), dropped on disposal
 * with whoever is still connected to it. Its encoding is that of the server, or `encoding`.
 */
export async function createTestDatabase(
  serverUrl: string = requiredEnv("DATABASE_URL"),
  encoding?: string,
): Promise<TestDatabase> {
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  const how = encoding === undefined ? "" : `TEMPLATE template0 LOCALE 'C' ENCODING '${encoding}'`;
  await execute(serverUrl, `CREATE DATABASE ${name} ${how}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    name,
    [Symbol.asyncDispose]: () => execute(serverUrl, `DROP DATABASE ${name} WITH (FORCE)`),
  };
}

/** Runs one statement over a connection of its own. `name` is no user input. */
async function execute(url: string, statement: string): Promise<void> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => undefined });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** A variable of the environment that `deno task test` sets. */
export function requiredEnv(name: string): string {
  const value = Deno.env.get(name);
  if (value) return value;
  throw new Error(`Cannot run this test: ${name} is not set; run it through \`deno task test\``);
}
