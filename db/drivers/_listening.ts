import { promisify } from "node:util";
import { quoteIdentifier } from "../quote_identifier.ts";
import type { Timer } from "../runtime.ts";
import { withDeadline } from "./_deadline.ts";
import type { DriverOptions } from "./_options.ts";
import type { PgClient } from "./_pg_client.ts";

/** The delay before another attempt, which grows with each. */
const STEP_MS = 50;
const ANEW_MS_MAX = 2_000;

/** The parts of a {@linkcode Listening}. */
export interface ListeningOptions extends Pick<DriverOptions, "clock" | "limitMs"> {
  /** The channel. */
  readonly channel: string;
  /** Called with each payload. */
  readonly onNotify: (payload: string) => void;
  /** Creates a client for the current server. */
  readonly open: () => PgClient;
  /** Called when it cannot be repeated. */
  readonly onError: (error: unknown) => void;
}

/** A `LISTEN` on a connection of its own, repeated whenever that is lost. */
export class Listening {
  /** Resolves when it stands for the first time; rejects when the first attempt fails. */
  readonly begun: Promise<void>;
  readonly #options: ListeningOptions;
  #client: PgClient | undefined;
  #timer: Timer | undefined;
  #attempts = 0;
  #closed = false;

  constructor(options: ListeningOptions) {
    this.#options = options;
    this.begun = this.#begin();
  }

  /** Drops the connection, and listens at the current server. */
  beginAnew(): void {
    this.#client?.destroy();
  }

  /** Ends it for good. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#client?.destroy();
    await this.#client?.ended;
  }

  async #begin(): Promise<void> {
    const { open, channel, onNotify, limitMs, clock } = this.#options;
    const client = this.#client = open();
    client.on("notification", ({ payload }) => onNotify(payload));
    client.once("end", () => this.#beginLater());
    try {
      await promisify(client.connect.bind(client))();
      const listening = client.query({ text: `LISTEN ${quoteIdentifier(channel)}` });
      await withDeadline(listening, limitMs, clock);
      this.#attempts = 0;
    } catch (error) {
      client.destroy();
      throw error;
    }
  }

  #beginLater(): void {
    if (this.#closed) return;
    const delayMs = Math.min(++this.#attempts * STEP_MS, ANEW_MS_MAX);
    this.#timer = this.#options.clock.after(delayMs, () => {
      // A failed attempt ends its connection, which causes the next attempt.
      this.#begin().catch((error) => {
        if (!this.#closed) this.#options.onError(error);
      });
    });
  }
}
