import { fileURLToPath } from "node:url";
import { createTestDatabase, type TestDatabase } from "../tests/support/test_database.ts";

/** Creates a database with so many users, dropped on disposal, on the server of `DATABASE_URL` or on 127.0.0.1:5432. */
export async function seededDatabase(users: number): Promise<TestDatabase> {
  const server = Deno.env.get("DATABASE_URL") ?? "postgres://postgres@127.0.0.1:5432/postgres";
  const database = await createTestDatabase(server);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "seed", "--count", String(users)],
    cwd: fileURLToPath(new URL("../", import.meta.url)),
    env: { DATABASE_URL: database.url },
  }).output();
  if (success) return database;
  await database[Symbol.asyncDispose]();
  throw new Error(`Cannot seed: ${new TextDecoder().decode(stderr)}`);
}
