/** One thing that happened, in the order in which it did. */
export interface RaceEvent {
  /** Milliseconds since the race began. */
  readonly atMs: number;
  /** The instance, or who else did it. */
  readonly who: string;
  /** What was done or seen. */
  readonly what: string;
}

/** What happened in one race. */
export class History {
  readonly #events: RaceEvent[] = [];
  readonly #startedAtMs = performance.now();

  /** Everything so far. */
  get events(): readonly RaceEvent[] {
    return this.#events;
  }

  /** Adds an event. */
  note(who: string, what: string): void {
    const atMs = Math.round(performance.now() - this.#startedAtMs);
    this.#events.push({ atMs, who, what });
  }
}
