import { connect } from "@db/driver";
import { seed } from "../../seed.ts";
import { createTestDatabase, type TestDatabase } from "./test_database.ts";

/** Creates a database with the schema and users 1 to `count`, dropped on disposal. */
export async function createSeededDatabase(
  count: number,
  serverUrl?: string,
): Promise<TestDatabase> {
  const created = await createTestDatabase(serverUrl);
  await using database = connect({ url: created.url, poolMax: 2 });
  await seed(database, { count });
  return created;
}
