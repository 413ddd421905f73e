import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { Cache } from "../../cache/mod.ts";
import { readCa } from "../../server/certificates.ts";
import { DatabaseUnavailableError } from "../../db/database.ts";
import { type Certificates, makeCertificates } from "../../tools/servers/certificates.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { type PostgresServer, startPostgres } from "../../tools/servers/postgres_server.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { cacheInUse, Service, startService } from "../../tools/servers/service.ts";

describe("TLS to Redis and Postgres", () => {
  const stack = new AsyncDisposableStack();
  let certificates: Certificates;
  let redisUrl: string;
  let postgres: PostgresServer;
  let databaseUrl: string;

  beforeAll(async () => {
    certificates = stack.use(await makeCertificates());
    const { server: { certFile, keyFile } } = certificates;
    const port = freePort();
    const redis = stack.use(
      await startRedis({
        port,
        args: [
          ...["--port", "0", "--tls-port", String(port), "--tls-auth-clients", "no"],
          ...["--tls-cert-file", certFile, "--tls-key-file", keyFile],
        ],
      }),
    );
    redisUrl = redis.serviceUrl.replace("redis:", "rediss:");
    postgres = stack.use(
      await startPostgres({
        settings: { ssl: "on", ssl_cert_file: certFile, ssl_key_file: keyFile },
      }),
    );
    // Not disposed of: it goes with its server.
    databaseUrl = (await createSeededDatabase(10, postgres.url)).url;
  });
  afterAll(() => stack.disposeAsync());

  it("has the service read, write and follow with nothing but the files it was told of", async () => {
    await using service = await startService({
      env: {
        REDIS_URL: redisUrl,
        REDIS_CA_FILE: certificates.caFile,
        DATABASE_URL: databaseUrl,
        DATABASE_CA_FILE: certificates.caFile,
      },
    });
    await cacheInUse(service);
    await eventually(async () => {
      const stats = await (await service.fetch("/cache/stats")).json();
      assertEquals(stats.coherent, true);
    });
    assertEquals(await encrypted(databaseUrl), [true]);
  });

  it("is not had from a Postgres that somebody else vouches for", async () => {
    const { ca } = await readCa(certificates.strangerFile);
    assert(ca !== undefined);
    await using database = connect({ url: databaseUrl, ca, poolMax: 1 });
    await assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError);
  });

  it("is not had from a Postgres that is not the host of the URL", async () => {
    const { ca } = await readCa(certificates.caFile);
    assert(ca !== undefined);
    const url = databaseUrl.replace("127.0.0.1", "localhost");
    await using database = connect({ url, ca, poolMax: 1 });
    await assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError);
  });

  it("is not done without where Postgres has none", async () => {
    await using plain = await startPostgres();
    const { ca } = await readCa(certificates.caFile);
    assert(ca !== undefined);
    await using database = connect({ url: plain.url, ca, poolMax: 1 });
    await assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError);
  });

  it("is had where Postgres has it, and not missed where it has not, with sslmode=allow or prefer", async () => {
    await using plain = await startPostgres();
    // @db/postgres encrypts only for a certificate that it can verify.
    const encrypts = !import.meta.resolve("@db/driver").includes("deno_postgres");
    for (const mode of ["allow", "prefer"]) {
      for (const [url, expected] of [[databaseUrl, encrypts], [plain.url, false]] as const) {
        await using database = connect({ url: `${url}?sslmode=${mode}`, poolMax: 1 });
        assertEquals(
          await database.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
          [{ ssl: expected }],
        );
      }
    }
    await using demanding = connect({ url: `${plain.url}?sslmode=require`, poolMax: 1 });
    await assertRejects(() => demanding.query("SELECT 1"), DatabaseUnavailableError);
  });

  it("is not had from a Redis that somebody else vouches for", async () => {
    assertMatch(await refusal(certificates.strangerFile), /unable to verify/);
    assertMatch(await refusal(undefined), /unable to verify/);
  });

  it("is not begun with a file that is missing or holds no certificate", async () => {
    for (
      const [file, reason] of [
        [`${certificates.caFile}.missing`, "there is no such file"],
        [certificates.server.keyFile, "it holds no certificate in PEM"],
      ] as const
    ) {
      const env = { REDIS_URL: redisUrl, REDIS_CA_FILE: file, DATABASE_URL: databaseUrl };
      await using service = new Service(freePort(), { env });
      const failed = await assertRejects(() => service.start(), Error);
      assertMatch(failed.message, new RegExp(`Cannot serve: .*Cannot .* ${file}: ${reason}`));
    }
  });

  /** Why a cache that trusts the file can't connect. */
  async function refusal(file: string | undefined): Promise<string> {
    const refused = Promise.withResolvers<unknown>();
    await using _cache = new Cache({
      url: redisUrl,
      ...await readCa(file),
      onEvent: (event) => {
        if (event.type === "redis-error" && event.command === "connect") {
          refused.resolve(event.error);
        }
      },
    });
    return String(await refused.promise);
  }
});

/** Whether each connection of the service to its database is encrypted, told apart. */
async function encrypted(url: string): Promise<boolean[]> {
  await using database = connect({ url, poolMax: 1 });
  const rows = await database.query<{ ssl: boolean }>(
    "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) " +
      "WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  return rows.map(({ ssl }) => ssl);
}
