import { Client, type ClientOptions } from "@db/postgres";
import type { PoolStats } from "../database.ts";
import type { Clock } from "../runtime.ts";
import { withDeadline } from "./_deadline.ts";

/** Bounds of a {@linkcode ClientPool}. */
export interface ClientPoolOptions {
  /** How each client connects. */
  readonly client: ClientOptions;
  /** The most clients at once. */
  readonly clientsMax: number;
  /** How long a connection may take to open. */
  readonly connectTimeoutMs: number;
  /** How long to wait for a client while all are taken. */
  readonly waitMs: number;
  /** The source of time. */
  readonly clock: Clock;
}

/** A client that was taken from the pool. */
export interface Loan {
  /** The client. Nobody else uses it. */
  readonly client: Client;
  /** Set when its connection can't be used again. */
  broken: boolean;
}

/**
 * Clients of `@db/postgres`, a bounded number of them.
 *
 * The pool of that package loses a place for good whenever a connection fails to open, so it is empty
 * after a short outage.
 */
export class ClientPool {
  readonly #options: ClientPoolOptions;
  readonly #idle: Client[] = [];
  readonly #lent = new Set<Client>();
  /** Who waits for a place: it comes with a client, or without one to be filled. */
  readonly #waiting: PromiseWithResolvers<Client | undefined>[] = [];
  readonly #ending = new Set<Promise<void>>();
  #taken = 0;
  #closed = false;
  #drained: PromiseWithResolvers<void> | undefined;

  /** Opens nothing yet. */
  constructor(options: ClientPoolOptions) {
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

  /** What the clients are doing. */
  stats(): PoolStats {
    return {
      connectionsMax: this.#options.clientsMax,
      inUse: this.#lent.size,
      waiting: this.#waiting.length,
    };
  }

  /** Waits up to `timeoutMs` for lent clients, then ends all that are left. */
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
    if (idle === undefined && this.#taken >= this.#options.clientsMax) {
      return await this.#wait() ?? await this.#open();
    }
    this.#taken++;
    return idle ?? await this.#open();
  }

  async #wait(): Promise<Client | undefined> {
    const waiter = Promise.withResolvers<Client | undefined>();
    this.#waiting.push(waiter);
    try {
      return await withDeadline(waiter.promise, this.#options.waitMs, this.#options.clock);
    } catch (error) {
      const index = this.#waiting.indexOf(waiter);
      if (index >= 0) this.#waiting.splice(index, 1);
      throw error;
    }
  }

  async #open(): Promise<Client> {
    const { client: clientOptions, connectTimeoutMs, clock } = this.#options;
    const client = new Client(clientOptions);
    const opened = client.connect();
    try {
      await withDeadline(opened, connectTimeoutMs, clock);
      return client;
    } catch (error) {
      // Should it open after all, nobody wants it. Should it fail, `error` was thrown already.
      opened.then(() => this.#end(client), () => undefined);
      this.#passOn(undefined);
      throw error;
    }
  }

  #giveBack({ client, broken }: Loan): void {
    if (broken) {
      // A broken connection is seldom alone: after a restart of the server each idle one would fail
      // a statement before it was replaced. The driver doesn't watch them.
      this.#endIdle();
      this.#end(client);
      this.#passOn(undefined);
    } else if (this.#closed) {
      this.#end(client);
      this.#passOn(undefined);
    } else {
      this.#passOn(client);
    }
  }

  /** Gives a place to who waits longest, else frees it. */
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
    // It may be broken already. There is nothing else that could be closed.
    const ended = client.end().catch(() => undefined).then(() => {
      this.#ending.delete(ended);
    });
    this.#ending.add(ended);
  }
}

function poolClosed(): Error {
  return new Error("Cannot take a client: the pool was closed");
}
