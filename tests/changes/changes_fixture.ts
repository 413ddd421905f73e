import postgres from "postgres";
import { fromPostgresJs } from "../../changes/adapters/postgres_js.ts";
import type { ChangesDatabase } from "../../changes/database.ts";
import { installChanges } from "../../changes/install.ts";
import { createTestDatabase, requiredEnv } from "../support/test_database.ts";

/** A row of the outbox. */
export interface Noted {
  readonly label: string;
  readonly keys: readonly string[] | null;
  readonly values: readonly string[] | null;
}

/**
 * A database with the schema `lookaside`, as a hosted Postgres has it: installed by a role that owns the
 * database and is no superuser, and relayed by one that may do nothing but what it was admitted to.
 */
export interface ChangesFixture extends AsyncDisposable {
  /** Addresses of the database, by role. */
  readonly urls: Readonly<Record<"admin" | "owner" | "service", string>>;
  /** A superuser. */
  readonly admin: postgres.Sql;
  /** Who owns the schema and the tables. */
  readonly owner: postgres.Sql;
  /** What a relay works with. */
  readonly service: ChangesDatabase;
  /** The name of the service's role. */
  readonly serviceRole: string;
  /** What is in the outbox, which is empty then: lists in the order of texts. */
  noted(): Promise<Noted[]>;
  /** Connects as anybody. Disposed of with the fixture. */
  connect(url: string, options?: postgres.Options<Record<string, never>>): postgres.Sql;
  /** Makes a role, and answers the address of the database for it. Dropped with the fixture. */
  makeRole(attributes?: string): Promise<{ readonly name: string; readonly url: string }>;
}

/** Makes a {@linkcode ChangesFixture}. */
export async function createChangesDatabase(
  serverUrl: string = requiredEnv("DATABASE_URL"),
): Promise<ChangesFixture> {
  await using building = new AsyncDisposableStack();
  let stack = building;
  const roles: string[] = [];
  const server = postgres(serverUrl, { max: 1, onnotice: () => undefined });
  stack.defer(() => server.end({ timeout: 5 }));
  stack.defer(async () => {
    for (const role of roles) await server.unsafe(`DROP ROLE IF EXISTS ${role}`);
  });
  const created = stack.use(await createTestDatabase(serverUrl));
  const connect: ChangesFixture["connect"] = (url, options) => {
    const sql = postgres(url, {
      max: 6,
      prepare: false,
      fetch_types: false,
      onnotice: () => undefined,
      ...options,
    });
    stack.defer(() => sql.end({ timeout: 1 }));
    return sql;
  };
  const makeRole: ChangesFixture["makeRole"] = async (attributes = "") => {
    const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
    await server.unsafe(`CREATE ROLE ${name} LOGIN PASSWORD 'p' ${attributes}`);
    roles.push(name);
    const url = new URL(created.url);
    url.username = name;
    url.password = "p";
    return { name, url: url.href };
  };
  const [ownerRole, serviceRole] = [await makeRole(), await makeRole()];
  await server.unsafe(`ALTER DATABASE ${created.name} OWNER TO ${ownerRole.name}`);
  const admin = connect(created.url);
  await admin.unsafe(`GRANT ALL ON SCHEMA public TO ${ownerRole.name}`);
  const owner = connect(ownerRole.url);
  await installChanges(fromPostgresJs(owner), { service: serviceRole.name });
  stack = building.move();
  return {
    urls: { admin: created.url, owner: ownerRole.url, service: serviceRole.url },
    admin,
    owner,
    service: fromPostgresJs(connect(serviceRole.url)),
    serviceRole: serviceRole.name,
    connect,
    makeRole,
    async noted() {
      const rows = await owner.unsafe<{ label: string; keys: string; values: string }[]>(
        `WITH taken AS (DELETE FROM lookaside.outbox RETURNING *)
         SELECT label, to_json(keys)::TEXT AS keys, to_json(column_values)::TEXT AS values
         FROM taken ORDER BY created_at, id`,
      );
      const list = (text: string | null): string[] | null =>
        (JSON.parse(text ?? "null") as string[] | null)?.toSorted() ?? null;
      return rows.map(({ label, keys, values }) => ({
        label,
        keys: list(keys),
        values: list(values),
      }));
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
