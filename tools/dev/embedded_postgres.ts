/**
 * Postgres without an installation: PGlite behind its socket server, as a program of its own.
 *
 * `deno task dev` starts it if there is no other Postgres. It prints one line, its URL, once it is ready. It ends on
 * SIGTERM, on SIGINT, and when its standard input closes, so that it does not outlive a parent that was killed.
 *
 * @module
 */
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { parseArgs } from "node:util";
import { untilToldToStop } from "../until_told_to_stop.ts";

/** Limit of connections: the service, a second one under load, and a few psql. */
const CONNECTIONS_MAX = 16;

/**
 * First bytes of the messages that leave no batch open: a start-up packet (its length), Query, Sync,
 * Terminate, CopyDone and CopyFail.
 */
const BATCH_ENDS: ReadonlySet<number | undefined> = new Set([0x00, 0x51, 0x53, 0x58, 0x63, 0x66]);

/**
 * PGlite with many connections on its one session.
 *
 * The socket server queues single protocol messages, so two clients can interleave:
 *   1. A: Parse, Bind     the unnamed portal is A's
 *   2. B: Parse, Bind     the unnamed portal is B's
 *   3. A: Execute         runs B's, or fails: portal "" does not exist
 * But it lets one client finish while a transaction is open. So a batch of messages without its Sync is
 * reported as an open transaction, and every batch runs as a whole.
 */
class BatchedPGlite extends PGlite {
  #inBatch = false;

  /** True if the next message must come from the same client. */
  override isInTransaction(): boolean {
    return this.#inBatch || super.isInTransaction();
  }

  /** Passes one message on, and notes whether it leaves a batch open. */
  override execProtocolRawStream(
    ...[message, options]: Parameters<PGlite["execProtocolRawStream"]>
  ): Promise<void> {
    this.#inBatch = !BATCH_ENDS.has(message[0]);
    return super.execProtocolRawStream(message, options);
  }

  /** Runs simple statements. The socket server uses it to roll back when a client disconnects. */
  override exec(...[query, options]: Parameters<PGlite["exec"]>): ReturnType<PGlite["exec"]> {
    this.#inBatch = false;
    return super.exec(query, options);
  }
}

/** A running embedded Postgres. */
interface EmbeddedPostgres extends AsyncDisposable {
  /** Its address. It needs no password. */
  readonly url: string;
}

/**
 * Starts Postgres in this process, on a port of 127.0.0.1; 0: any free one. Its data is in the folder, which is
 * created if missing, or in memory.
 *
 * @throws {Error} Another process uses the folder, or the port is taken.
 */
async function startEmbeddedPostgres(
  dataDir: string | undefined,
  port: number,
): Promise<EmbeddedPostgres> {
  const lock = dataDir === undefined ? undefined : await lockFolder(dataDir);
  const db = new BatchedPGlite(dataDir === undefined ? {} : { dataDir });
  await db.waitReady;
  const server = new PGLiteSocketServer({
    db,
    host: "127.0.0.1",
    port,
    maxConnections: CONNECTIONS_MAX,
  });
  await server.start();
  return {
    url: `postgres://postgres@${server.getServerConn()}/postgres`,
    async [Symbol.asyncDispose](): Promise<void> {
      await server.stop();
      await db.close();
      lock?.close();
    },
  };
}

/** Two Postgres on one folder would destroy the data, and PGlite does not check. */
async function lockFolder(dataDir: string): Promise<Deno.FsFile> {
  await Deno.mkdir(dataDir, { recursive: true });
  const lock = await Deno.open(`${dataDir}.lock`, { create: true, write: true });
  if (await lock.tryLock(true)) return lock;
  lock.close();
  throw new Error(`Cannot open ${dataDir}: another process has it open`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { data: { type: "string" }, port: { type: "string", default: "0" } },
  });
  const stopped = untilToldToStop();
  await using postgres = await startEmbeddedPostgres(values.data, Number(values.port));
  await Deno.stdout.write(new TextEncoder().encode(`${postgres.url}\n`));
  await stopped;
}

if (import.meta.main) {
  await main();
  // Standard input may still be open, and reading it would keep the process alive.
  Deno.exit(0);
}
