import { Client, type ClientOptions } from "@db/postgres";
import type { PoolStats } from "../database.ts";
import { withDeadline } from "./_deadline.ts";
import type { DriverOptions } from "./_options.ts";

/** A client that was taken from the pool. */
export interface Loan {
  /** The client, for this caller only. */
  readonly client: Client;
  /** True if its connection cannot be used again. */
  broken: boolean;
}

/**
 * A limited number of clients of `@db/postgres`.
 *
 * The pool of that package loses a place for good whenever a connection fails to open, so after a short outage
 * it is empty.
 */
export class ClientPool {
  readonly #clientOptions: ClientOptions;
  readonly #options: DriverOptions;
  readonly #idle: Client[] = [];
  readonly #lent = new Set<Client>();
  /** Callers that wait for a place; it comes with a client, or without one. */
  readonly #waiting: PromiseWithResolvers<Client | undefined>[] = [];
  readonly #ending = new Set<Promise<void>>();
  #taken = 0;
  #closed = false;
  #drained: PromiseWithResolvers<void> | undefined;

  /** Opens nothing yet. */
  constructor(clientOptions: ClientOptions, options: DriverOptions) {
    this.#clientOptions = clientOptions;
    this.#options = options;
  }

  /** Lends a client to `use`. */
  async lend<T>(use: (loan: Loan) => Promise<T>): Promise<T> {
    const loan: Loan = { client: await this.#take(), broken: false };
    this.#lent.add(loan.client);
    try {
      return await use(loan);
    } finally {
      this.#lent.delete(loan.client);
      this.#giveBack(loan);
    }
  }

  /** The use of the clients. */
  stats(): PoolStats {
    return {
      connectionsMax: this.#options.poolMax,
      inUse: this.#lent.size,
      waiting: this.#waiting.length,
    };
  }

  /** Waits up to `timeoutMs` for lent clients, then closes all that are left. */
  async close(timeoutMs: number): Promise<void> {
    this.#closed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(poolClosed());
    this.#endIdle();
    if (this.#taken > 0) {
      this.#drained = Promise.withResolvers();
      await withDeadline(this.#drained.promise, timeoutMs, this.#options.clock).catch(() => {
        for (const client of this.#lent) this.#end(client);
      });
    }
    await Promise.all(this.#ending);
  }

  async #take(): Promise<Client> {
    if (this.#closed) throw poolClosed();
    const idle = this.#idle.pop();
    if (idle === undefined && this.#taken >= this.#options.poolMax) {
      return await this.#wait() ?? await this.#open();
    }
    this.#taken++;
    return idle ?? await this.#open();
  }

  async #wait(): Promise<Client | undefined> {
    const waiter = Promise.withResolvers<Client | undefined>();
    this.#waiting.push(waiter);
    try {
      return await withDeadline(waiter.promise, this.#options.limitMs, this.#options.clock);
    } catch (error) {
      const index = this.#waiting.indexOf(waiter);
      if (index >= 0) this.#waiting.splice(index, 1);
      throw error;
    }
  }

  async #open(): Promise<Client> {
    const { connectTimeoutMs, clock, password } = this.#options;
    const changing = password === undefined ? {} : { password: password() };
    const client = new Client({ ...this.#clientOptions, ...changing });
    const opened = client.connect();
    try {
      await withDeadline(opened, connectTimeoutMs, clock);
      return client;
    } catch (error) {
      // If it opens later, it is not needed. If it fails, `error` was already thrown.
      opened.then(() => this.#end(client), () => undefined);
      this.#passOn(undefined);
      throw error;
    }
  }

  #giveBack({ client, broken }: Loan): void {
    // A broken connection is seldom alone: after a restart of the server, each idle one would fail a statement
    // before it is replaced. The driver does not watch them.
    if (broken) this.#endIdle();
    if (broken || this.#closed) this.#end(client);
    this.#passOn(broken || this.#closed ? undefined : client);
  }

  /** Gives a place to the longest waiting caller; otherwise frees it. */
  #passOn(client: Client | undefined): void {
    const waiter = this.#waiting.shift();
    if (waiter) return waiter.resolve(client);
    this.#taken--;
    if (client) this.#idle.push(client);
    if (this.#taken === 0) this.#drained?.resolve();
  }

  #endIdle(): void {
    for (const client of this.#idle.splice(0)) this.#end(client);
  }

  #end(client: Client): void {
    // It may already be broken, and nothing else could be closed.
    const ended = client.end().catch(() => undefined).then(() => {
      this.#ending.delete(ended);
    });
    this.#ending.add(ended);
  }
}

function poolClosed(): Error {
  return new Error("Cannot take a client: the pool was closed");
}
