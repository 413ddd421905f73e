import type { Chores } from "./_chores.ts";
import type { ChangesDatabase } from "./database.ts";
import type { Look, Outbox } from "./_outbox.ts";

const CHANNEL = "lookaside_changes";
/** Interval at which a relay that listens asks for notifications. */
export const RING_MS = 10_000;
const LISTEN_RETRY_MS = 30_000;
/** A look that finds this many rows is followed so soon by the next that writers need not notify. */
const BUSY_ROWS_MIN = 3;
/** So many looks in a row that find a row within this time after the previous one have the same effect. */
const FOLLOW_MS = 50;
const FOLLOWS_MIN = 3;

/** The parts of a {@linkcode Bell}. */
export interface BellParts {
  readonly database: ChangesDatabase;
  readonly outbox: Outbox;
  readonly chores: Chores;
  /** Called for each notification, and when no more are heard. */
  readonly onRing: () => void;
  readonly onError: (error: unknown) => void;
}

/**
 * The notifications with which writers wake a relay. They cost writers, so they are sent only if a relay has asked
 * for them lately, and none has promised to look anyway.
 */
export class Bell implements AsyncDisposable {
  /** True if this relay has promised to look. */
  promised = false;
  readonly #parts: BellParts;
  #subscription: AsyncDisposable | undefined;
  #isSilent = false;
  /** Number of looks that found a row shortly after another had. */
  #follows = 0;

  constructor(parts: BellParts) {
    this.#parts = parts;
  }

  /** True if notifications are heard. */
  get isHeard(): boolean {
    return this.#subscription !== undefined;
  }

  /** True if writers do not notify here. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** Notifications make the relay fast. Without them (PgBouncer, PGlite) it polls. */
  async listenWhenDue(): Promise<void> {
    const { database, outbox, chores, onRing, onError } = this.#parts;
    if (this.isHeard || database.listen === undefined) return;
    if (!chores.isDue("listen", LISTEN_RETRY_MS)) return;
    this.#isSilent = await outbox.isSilent();
    try {
      this.#subscription = await database.listen(CHANNEL, onRing, (error) => {
        this.#subscription = undefined;
        if (error !== undefined) onError(error);
        onRing();
      });
    } catch (error) {
      onError(error);
    }
  }

  /** Asks writers to notify. Called before the look that finds rows written until then. */
  async askWhenDue(): Promise<void> {
    const { outbox, chores } = this.#parts;
    if (!this.isHeard || this.promised || !chores.isDue("ring", RING_MS)) return;
    try {
      await outbox.askToRing();
    } catch (error) {
      chores.makeDue("ring");
      throw error;
    }
  }

  /**
   * True if the next rows are so near that they need no notification. A relay that is not notified needs no promise.
   */
  isBusy({ rows: { length: rows }, agoMs }: Look): boolean {
    if (rows === 0 || !this.isHeard) return false;
    this.#follows = agoMs < FOLLOW_MS ? this.#follows + 1 : 0;
    return this.promised || rows >= BUSY_ROWS_MIN || this.#follows >= FOLLOWS_MIN;
  }

  /** Ceases to listen. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#subscription?.[Symbol.asyncDispose]();
  }
}
