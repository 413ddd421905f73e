import { parseSnapshot } from "./_snapshot.ts";

/** A relay that is behind, or what keeps it from forgetting: something for a person to look at. */
export interface RelayProblem {
  /** The fault, in the same words each time. */
  readonly problem: string;
  /** The statement, or the deed, that puts it right. */
  readonly remedy: string;
}

/** Figures of a relay and of what it leaves behind. */
export interface Health {
  /** Age of the oldest open row, in milliseconds. */
  readonly lagMs: number;
  /** Size of the outbox. */
  readonly bytes: number;
  /** How long the oldest transaction that has written is seen to be open, in milliseconds, and its id. */
  readonly heldMs: number;
  readonly heldBy: string;
}

/** Figures past which a person should look. */
export interface Limits {
  readonly lagMs: number;
  readonly bytes: number;
  readonly heldMs: number;
}

/** The limits by default. */
export const LIMITS: Limits = { lagMs: 30_000, bytes: 2 ** 30, heldMs: 300_000 };

/** Names whatever is past its limit, and what to do. */
export function problemsOf(health: Health, limits: Limits): RelayProblem[] {
  const problems: RelayProblem[] = [];
  if (health.lagMs > limits.lagMs) {
    problems.push({
      problem:
        "Changes are waiting to be applied, and readers may get values that they have replaced",
      remedy: "Check this relay for errors, and whether Redis accepts invalidations",
    });
  }
  if (health.bytes > limits.bytes) {
    problems.push({
      problem: `The outbox takes more than ${Math.floor(limits.bytes / 2 ** 20)} MiB`,
      remedy:
        "Look for a cache that nobody relays to any more: SELECT name FROM lookaside.caches; and " +
        "forget it: DELETE FROM lookaside.caches WHERE name = '…'. Or keep what was applied for less long",
    });
  }
  if (health.heldMs > limits.heldMs) {
    const { heldBy } = health;
    problems.push({
      problem:
        `Transaction ${heldBy} is open for long, and nothing that was written since is cleaned up`,
      remedy:
        `End it: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = '${heldBy}'; ` +
        `or, if it is prepared, ROLLBACK PREPARED what SELECT gid FROM pg_prepared_xacts WHERE ` +
        `transaction = '${heldBy}' names`,
    });
  }
  return problems;
}

/** The oldest transaction that has written and not ended, seen from one look to the next. */
export class Horizon {
  #xmin = 0n;
  #sinceMs = 0;
  #nowMs = 0;
  #isHeld = false;

  /** Takes notice of a snapshot, and of when it was taken. */
  note(snapshot: string, nowMs: number): void {
    const { xmin, xmax } = parseSnapshot(snapshot);
    const wasHeld = this.#isHeld && xmin === this.#xmin;
    this.#isHeld = xmin < xmax;
    this.#nowMs = nowMs;
    if (!wasHeld) this.#sinceMs = nowMs;
    this.#xmin = xmin;
  }

  /** How long it has been seen, in milliseconds; 0: there is none. */
  get heldMs(): number {
    return this.#isHeld ? this.#nowMs - this.#sinceMs : 0;
  }

  /** Its id, as `pg_stat_activity.backend_xid` has it. */
  get heldBy(): string {
    return String(this.#xmin % 2n ** 32n);
  }
}
