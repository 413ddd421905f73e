/**
 * The driver of the JSR profile: `jsr:@db/postgres`.
 *
 * Slower than the default driver, and much slower over TCP: it sends a statement with parameters as five small
 * writes, on a socket without TCP_NODELAY, which it does not expose. The kernel holds the second write back
 * until the first is acknowledged, which the server delays by 40 ms. See docs/adr/0001. Connections that hang
 * while they open, or break while they close, stay open until the process ends, since the package cannot close
 * them. It always verifies certificates: `sslmode=require` acts as `verify-full`, and with `prefer` and `allow` a
 * certificate that cannot be verified leaves the connection unencrypted, with a warning.
 *
 * @module
 */
import { type ClientOptions, PostgresError } from "@db/postgres";
import type { Database, DatabaseOptions, PoolStats, Queryable, SqlValue } from "../database.ts";
import { parsePostgresUrl } from "../postgres_url.ts";
import { ClientPool, type Loan } from "./_client_pool.ts";
import { withDeadline } from "./_deadline.ts";
import { CLOSE_TIMEOUT_MS, type DriverOptions, withDefaults } from "./_options.ts";
import { StatementBound } from "./_statement_bound.ts";
import { READ_ONLY, toldOf, unavailable } from "./_unavailable.ts";

/** `-c name=value` or `--name=value`. */
const OPTION = /(?:-c\s*|--)([\w.]+)=((?:\\.|\S)*)/g;

/** Opens a pool. Connects with the first statement, so it works even while Postgres is down. */
export function connect(options: DatabaseOptions): Database {
  return new DenoPostgresDatabase(options);
}

class DenoPostgresDatabase implements Database {
  readonly #options: DriverOptions;
  readonly #bound: StatementBound;
  readonly #pool: ClientPool;

  constructor(options: DatabaseOptions) {
    this.#options = withDefaults(options);
    this.#bound = new StatementBound(this.#options);
    this.#pool = new ClientPool(clientOptions(this.#options), this.#options);
  }

  query<Row>(text: string, values: readonly SqlValue[] = []): Promise<Row[]> {
    return this.#lend((loan) => this.#run<Row>(loan, text, values));
  }

  transaction<T>(run: (transaction: Queryable) => Promise<T>): Promise<T> {
    return this.#lend(async (loan) => {
      await this.#run(loan, "BEGIN", []);
      const failures: unknown[] = [];
      try {
        const answer = await run({
          query: <Row>(text: string, values: readonly SqlValue[] = []) =>
            this.#run<Row>(loan, text, values).catch((error) => {
              failures.push(error);
              throw error;
            }),
        });
        // Postgres would take `COMMIT` for `ROLLBACK`, and say nothing.
        if (failures.length > 0) throw failures[0];
        await this.#run(loan, "COMMIT", []);
        return answer;
      } catch (error) {
        if (!loan.broken) await this.#run(loan, "ROLLBACK", []);
        throw error;
      }
    });
  }

  listen(channel: string, _onNotify: (payload: string) => void): Promise<AsyncDisposable> {
    return Promise.reject(
      new Error(`Cannot listen on ${channel}: @db/postgres has no LISTEN. Poll instead`),
    );
  }

  pool(): PoolStats {
    return this.#pool.stats();
  }

  close(): Promise<void> {
    return this.#pool.close(CLOSE_TIMEOUT_MS);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #lend<T>(use: (loan: Loan) => Promise<T>): Promise<T> {
    let lent = false;
    try {
      return await this.#bound.run(() =>
        this.#pool.lend((loan) => {
          lent = true;
          return use(loan);
        })
      );
    } catch (error) {
      // Once a client was lent, the error is the caller's own, or has been translated.
      throw lent ? error : translate(error);
    }
  }

  async #run<Row>(loan: Loan, text: string, values: readonly SqlValue[]): Promise<Row[]> {
    if (loan.broken) throw unavailable("the transaction lost its connection", undefined);
    try {
      const { limitMs, clock } = this.#options;
      const sent = loan.client.queryObject<Row>(text, [...values]);
      return (await withDeadline(sent, limitMs, clock)).rows;
    } catch (error) {
      // After an error that Postgres did not report itself, the state of the connection is unknown. A connection
      // to a server without writes is useless too: the address may now lead to the primary.
      loan.broken = !(error instanceof PostgresError) || error.fields.severity === "FATAL" ||
        error.fields.code === READ_ONLY;
      throw translate(error);
    }
  }
}

/** The package understands only some parts of a URL. This reads those that both drivers must understand. */
function clientOptions({ url, ca, statementTimeoutMs }: DriverOptions): ClientOptions {
  const { urls } = parsePostgresUrl(url);
  if (urls.length > 1) throw new TypeError("Cannot use several hosts: @db/postgres knows one");
  const { hostname, port, username, password, pathname, searchParams } = urls[0];
  const sslMode = ca === undefined ? searchParams.get("sslmode") ?? "disable" : "verify-full";
  return {
    applicationName: searchParams.get("application_name") ?? "lookaside",
    hostname: decodeURIComponent(hostname).replace(/^\[(.*)\]$/, "$1"),
    port: port === "" ? 5432 : Number(port),
    user: decodeURIComponent(username),
    ...(password === "" ? {} : { password: decodeURIComponent(password) }),
    database: decodeURIComponent(pathname.slice(1)),
    tls: {
      enabled: sslMode !== "disable",
      enforce: !["disable", "allow", "prefer"].includes(sslMode),
      caCertificates: ca === undefined ? [] : [ca],
    },
    options: parametersOf(searchParams, statementTimeoutMs),
    // As in the default driver: a bigint is not JSON, and a double is a number.
    controls: { decoders: { int8: (value) => value, float8: Number } },
    // The next statement retries anyway.
    connection: { attempts: 1 },
  };
}

/** The parameters of a URL for Postgres. The package writes them as options, and escapes spaces alone. */
function parametersOf(url: URLSearchParams, statementTimeoutMs: number): Record<string, string> {
  const parameters = new Map([["statement_timeout", String(statementTimeoutMs)], ...url]);
  for (const [, name = "", value = ""] of url.get("options")?.matchAll(OPTION) ?? []) {
    parameters.set(name, value.replace(/\\(.)/g, "$1"));
  }
  for (const name of ["sslmode", "ssl", "application_name", "options"]) parameters.delete(name);
  const odd = [...parameters.keys()].find((name) => !/^\w+$/.test(name));
  if (odd !== undefined) {
    throw new TypeError(`Cannot set ${odd}: @db/postgres sets only plain names`);
  }
  const escaped = [...parameters].map(([name, value]) => [name, value.replaceAll("\\", "\\\\")]);
  return Object.fromEntries(escaped);
}

function translate(error: unknown): unknown {
  const state = error instanceof PostgresError ? error.fields.code : undefined;
  return toldOf(error, state, "it cannot be reached, or the connection was lost");
}
