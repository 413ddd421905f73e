/** One event, in the order of events. */
export interface RaceEvent {
  /** Milliseconds since the race began. */
  readonly atMs: number;
  /** The instance or other actor. */
  readonly who: string;
  /** The action or observation. */
  readonly what: string;
}

/** The events of one race. */
export class History {
  readonly #events: RaceEvent[] = [];
  readonly #startedAtMs = performance.now();

  /** All events so far. */
  get events(): readonly RaceEvent[] {
    return this.#events;
  }

  /** Adds an event. */
  note(who: string, what: string): void {
    const atMs = Math.round(performance.now() - this.#startedAtMs);
    this.#events.push({ atMs, who, what });
  }
}
