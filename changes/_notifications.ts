import type { Chores } from "./_chores.ts";
import type { ChangesDatabase } from "./database.ts";
import type { Look, Outbox } from "./_outbox.ts";

const CHANNEL = "lookaside_changes";
/** Interval at which a relay that listens asks for notifications. */
export const ASK_MS = 10_000;
const LISTEN_RETRY_MS = 30_000;
/** A look that finds this many rows is followed so soon by the next that writers need not notify. */
const BUSY_ROWS_MIN = 3;
/** So many looks in a row that find a row within this time after the previous one have the same effect. */
const FOLLOW_MS = 50;
const FOLLOWS_MIN = 3;

/** The parts of a {@linkcode Notifications}. */
export interface NotificationsParts {
  readonly database: ChangesDatabase;
  readonly outbox: Outbox;
  readonly chores: Chores;
  /** Called for each notification, and when no more are heard. */
  readonly onNotification: () => void;
  readonly onError: (error: unknown) => void;
}

/**
 * The notifications with which writers wake a relay. They cost writers, so they are sent only if a relay has asked
 * for them lately, and none has promised to look anyway.
 */
export class Notifications implements AsyncDisposable {
  /** True if this relay has promised to look. */
  hasPromised = false;
  readonly #parts: NotificationsParts;
  #subscription: AsyncDisposable | undefined;
  #writersAreSilent = false;
  /** Number of looks that found a row shortly after another had. */
  #follows = 0;

  constructor(parts: NotificationsParts) {
    this.#parts = parts;
  }

  /** True if notifications are heard. */
  get isListening(): boolean {
    return this.#subscription !== undefined;
  }

  /** True if writers do not notify here. */
  get writersAreSilent(): boolean {
    return this.#writersAreSilent;
  }

  /** Notifications make the relay fast. Without them (PgBouncer, PGlite) it polls. */
  async listenWhenDue(): Promise<void> {
    const { database, outbox, chores, onNotification, onError } = this.#parts;
    if (this.isListening || database.listen === undefined) return;
    if (!chores.takeIfDue("listen", LISTEN_RETRY_MS)) return;
    this.#writersAreSilent = await outbox.writersAreSilent();
    try {
      this.#subscription = await database.listen(CHANNEL, onNotification, (error) => {
        this.#subscription = undefined;
        // Not again and again where each connection is ended at once.
        if (chores.takeIfDue("listen again", LISTEN_RETRY_MS)) chores.makeDue("listen");
        if (error !== undefined) onError(error);
        onNotification();
      });
    } catch (error) {
      onError(error);
    }
  }

  /** Asks writers to notify. Called before the look that finds rows written until then. */
  async askWhenDue(): Promise<void> {
    const { outbox, chores } = this.#parts;
    if (!this.isListening || this.hasPromised || !chores.takeIfDue("ask", ASK_MS)) return;
    try {
      await outbox.askForNotifications();
    } catch (error) {
      chores.makeDue("ask");
      throw error;
    }
  }

  /**
   * True if the next rows are so near that they need no notification. A relay that is not notified needs no promise.
   */
  isBusy({ rows: { length: rows }, agoMs }: Look): boolean {
    if (rows === 0 || !this.isListening) return false;
    this.#follows = agoMs < FOLLOW_MS ? this.#follows + 1 : 0;
    return this.hasPromised || rows >= BUSY_ROWS_MIN || this.#follows >= FOLLOWS_MIN;
  }

  /** Ceases to listen. Never rejects: the pool may have been ended before, and listens no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#subscription?.[Symbol.asyncDispose]();
    } catch (error) {
      this.#parts.onError(error);
    }
  }
}
