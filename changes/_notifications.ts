import type { Chores } from "./_chores.ts";
import type { ChangesDatabase } from "./database.ts";
import type { Look, Outbox } from "./_outbox.ts";

const CHANNEL = "lookaside_changes";
/** Interval at which a relay that listens asks for notifications. */
export const ASK_MS = 10_000;
const LISTEN_RETRY_MS = 30_000;
/** When writers are asked for the second time in silence, this relay notifies itself; before the third, it must have heard. */
const SILENT_ASKS_MAX = 2;
const SILENT =
  "Notifications do not arrive, so changes are found by polling: the connection that listens was forgotten on the " +
  "way, or a pooler shares it. It is opened again";
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
  /** Runs while a connection is asked to listen. */
  #trying: Promise<void> | undefined;
  #writersAreSilent = false;
  /** Number of times that writers were asked since the last notification. */
  #silentAsks = 0;
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

  /**
   * Notifications make the relay fast. Without them (PgBouncer, PGlite) it polls, and it does not wait for them: new
   * connections may hang while others answer.
   */
  listenWhenDue(): void {
    const { database, chores, onError } = this.#parts;
    if (this.isListening || this.#trying !== undefined || database.listen === undefined) return;
    if (!chores.takeIfDue("listen", LISTEN_RETRY_MS)) return;
    this.#trying = this.#listen().catch(onError).finally(() => this.#trying = undefined);
  }

  /** Asks writers to notify. Called before the look that finds rows written until then. */
  async askWhenDue(): Promise<void> {
    const { outbox, chores } = this.#parts;
    if (!this.isListening || this.hasPromised || !chores.takeIfDue("ask", ASK_MS)) return;
    if (this.#silentAsks >= SILENT_ASKS_MAX) return this.#lost(new Error(SILENT));
    this.#silentAsks++;
    try {
      await outbox.askForNotifications({ rings: this.#silentAsks === SILENT_ASKS_MAX });
    } catch (error) {
      this.#silentAsks = 0; // perhaps nobody was notified
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
    await this.#trying;
    await this.#end();
  }

  async #listen(): Promise<void> {
    const { database, outbox } = this.#parts;
    this.#writersAreSilent = await outbox.writersAreSilent();
    const lost = (error?: unknown): void => {
      this.#subscription = undefined;
      this.#lost(error);
    };
    this.#subscription = await database.listen?.(CHANNEL, () => this.#heard(), lost);
    this.#heard(); // writers are to be asked, and rows to be looked for that they wrote before
  }

  #heard(): void {
    this.#silentAsks = 0;
    this.#parts.onNotification();
  }

  /** Listens again soon, but not again and again where each connection is ended at once. */
  #lost(error: unknown): void {
    const { chores, onError } = this.#parts;
    if (chores.takeIfDue("listen again", LISTEN_RETRY_MS)) chores.makeDue("listen");
    if (error !== undefined) onError(error);
    void this.#end();
    this.#heard();
  }

  async #end(): Promise<void> {
    const subscription = this.#subscription;
    this.#subscription = undefined;
    try {
      await subscription?.[Symbol.asyncDispose]();
    } catch (error) {
      this.#parts.onError(error);
    }
  }
}
