import type { Outbox } from "./_outbox.ts";

/** Options of a {@linkcode Registration}. */
export interface RegistrationOptions {
  /** Invalidates everything in the cache. */
  readonly reset: () => Promise<void>;
  /** Time for which applied rows are kept for the cache. */
  readonly keepMs: number;
  /** True if the registration is no longer needed. */
  readonly isClosed: () => boolean;
}

/** The registration of a cache: from then on, rows are kept for it. */
export class Registration {
  readonly #outbox: Outbox;
  readonly #options: RegistrationOptions;
  #registering: Promise<void> | undefined;
  #hasReset = false;

  constructor(outbox: Outbox, options: RegistrationOptions) {
    this.#outbox = outbox;
    this.#options = options;
  }

  /** True if this process has reset the cache. */
  get hasReset(): boolean {
    return this.#hasReset;
  }

  /**
   * Registers the cache and resets it, unless both are done already.
   *
   * ```text
   * 1. writer: UPDATE, not committed; its row carries transaction id 700
   * 2. cache: registers with a snapshot in which 700 is open; commits
   * 3. cache: resets
   * 4. reader: loads the old version, and fills
   * 5. writer: commits; its row is not in the snapshot: the relay finds it, and invalidates 4
   * ```
   *
   * A change committed before step 2 has no row for this cache and needs none: a load that begins after the
   * reset finds it in Postgres, and a load that began before cannot fill. So the registration must be committed
   * before the reset. The reset is noted last, because after a crash in between it must be repeated.
   */
  register(): Promise<void> {
    // Once for relaying and catching up together: a second reset would empty a cache that is in use.
    this.#registering ??= this.#register().finally(() => this.#registering = undefined);
    return this.#registering;
  }

  /** Registers again if the database turns out to be another one, or the same at an earlier time. */
  async renew(isEarlier = false): Promise<void> {
    if (isEarlier) await this.#outbox.unregister();
    if (isEarlier || !await this.#outbox.isSameServer()) await this.register();
  }

  async #register(): Promise<void> {
    while (!this.#options.isClosed()) {
      const { cache, reset } = await this.#outbox.register(this.#options.keepMs);
      if (reset) return;
      await this.#options.reset();
      this.#hasReset = true;
      // If the registration was replaced meanwhile, the reset came too early.
      if (await this.#outbox.noteReset(cache)) return;
    }
  }
}
