/**
 * Faults of Postgres. Cached data is served; other requests get 503.
 *
 * @module
 */
import { join } from "node:path";
import { eventually } from "../../tools/servers/eventually.ts";
import { type Fault, faultsOf, type Heal, startDefaultWorld } from "./fault.ts";
import { APP_USER, KEYS_COUNT, type World } from "./world.ts";

/** Delay of each statement on the way to Postgres: half in each direction. */
const SLOW_MS = 50;
/** The size of the tables of a world, and a little more. */
const DISK_SIZE = "8m";
const CHUNK = new Uint8Array(4_096);
/** The SQLSTATE of a write that found no room. */
const DISK_FULL = "53100";
const UPDATES_MAX = 10_000;
/** After this many refusals in a row, the disk counts as full. */
const REFUSALS = 20;
/** The user that runs Postgres if the tests run as root. */
const SERVER_USER = 65_534;

/** The rows. */
export const POSTGRES_FAULTS: readonly Fault[] = faultsOf(startDefaultWorld, [
  {
    name: "Postgres killed and restarted",
    short: true,
    tolerates: "503",
    start: async ({ postgres }) => {
      await postgres.kill();
      return () => postgres.start();
    },
  },
  {
    name: "Postgres stopped (SIGSTOP)",
    tolerates: "503",
    start: ({ postgres }) => {
      postgres.pause();
      return () => postgres.resume();
    },
  },
  {
    name: `Postgres slow (${SLOW_MS} ms more per statement)`,
    tolerates: "503",
    start: ({ postgresProxy }) => {
      postgresProxy.delay(SLOW_MS / 2);
      return () => postgresProxy.delay(0);
    },
  },
  {
    name: "Postgres out of connections",
    short: true,
    tolerates: "503",
    start: async ({ sql }) => {
      await sql.unsafe(`ALTER ROLE ${APP_USER} CONNECTION LIMIT 0`);
      await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${APP_USER}`;
      return async () => void await sql.unsafe(`ALTER ROLE ${APP_USER} CONNECTION LIMIT -1`);
    },
  },
  {
    name: "Postgres's disk full on the write",
    tolerates: "503",
    prepare: moveToSmallDisk,
    start: fillDisk,
  },
]);

/** Mount points of the small disks of worlds. */
const disks = new WeakMap<World, string>();

/** Moves the tables to a file system of a few megabytes, which needs root. */
async function moveToSmallDisk(world: World): Promise<Heal | string> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return "only root can mount a small disk";
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "lookaside_disk_" });
  stack.defer(() => Deno.remove(directory));
  const mounted = await run("mount", "-t", "tmpfs", "-o", `size=${DISK_SIZE}`, "tmpfs", directory);
  if (mounted !== undefined) return `a small disk cannot be mounted: ${mounted}`;
  // Postgres may still have files of a dropped table open.
  stack.defer(() => expectRun("umount", "--lazy", directory));
  await Deno.chown(directory, SERVER_USER, SERVER_USER);
  disks.set(world, directory);
  await world.sql.unsafe(`CREATE TABLESPACE small LOCATION '${directory}'`);
  stack.defer(async () => {
    // The next checkpoint deletes the files of moved tables.
    await world.sql.unsafe("CHECKPOINT");
    await world.sql.unsafe("DROP TABLESPACE small");
  });
  await moveTables(world, "pg_default", "small");
  stack.defer(() => moveTables(world, "small", "pg_default"));
  const mountedDisk = stack.move();
  return () => mountedDisk.disposeAsync();
}

/** Repeated, because each statement locks every table, which may deadlock with a writer of two tables. */
async function moveTables({ sql }: World, from: string, to: string): Promise<void> {
  for (const kind of ["TABLE", "INDEX"]) {
    await eventually(() =>
      sql.unsafe(`ALTER ${kind} ALL IN TABLESPACE ${from} SET TABLESPACE ${to}`)
    );
  }
}

/** Fills the disk completely. An old snapshot keeps Postgres from reusing space. */
async function fillDisk(world: World): Promise<Heal> {
  const directory = disks.get(world);
  if (directory === undefined) throw new Error("Cannot fill the disk: none was mounted");
  const snapshot = await world.sql.reserve();
  await snapshot.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM users LIMIT 1");
  const path = join(directory, "filler");
  using file = await Deno.open(path, { create: true, write: true });
  try {
    for (;;) await file.write(CHUNK);
  } catch (error) {
    if (!(error instanceof Error && /os error 28/.test(error.message))) throw error;
  }
  await useUpPages(world);
  return async () => {
    await Deno.remove(path);
    await snapshot.unsafe("ROLLBACK");
    snapshot.release();
  };
}

async function expectRun(program: string, ...args: string[]): Promise<void> {
  const failed = await run(program, ...args);
  if (failed !== undefined) throw new Error(`Cannot run ${program} ${args.join(" ")}: ${failed}`);
}

/** Writes rows without changing them, user by user, until the pages of the tables are full. */
async function useUpPages({ sql }: World): Promise<void> {
  let refused = 0;
  for (let i = 0; i < UPDATES_MAX && refused < REFUSALS; i++) {
    try {
      await sql`UPDATE users SET bio = bio WHERE id = ${1 + i % KEYS_COUNT}`;
      refused = 0;
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === DISK_FULL)) throw error;
      refused++;
    }
  }
  if (refused < REFUSALS) throw new Error(`Cannot fill the disk: ${UPDATES_MAX} updates fit`);
}

/** Runs a program, and answers its error output if it failed. */
async function run(program: string, ...args: string[]): Promise<string | undefined> {
  try {
    const { success, stderr } = await new Deno.Command(program, { args, stdout: "null" }).output();
    return success ? undefined : new TextDecoder().decode(stderr).trim();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return error.message;
    throw error;
  }
}
