import type { ChangesStats } from "@lookaside/cache";
import { parseSnapshot } from "./_snapshot.ts";

/** A problem that a person must fix. */
export interface ChangesProblem {
  /** The fault, in the same words each time. */
  readonly problem: string;
  /** The statement or action that fixes it. */
  readonly remedy: string;
}

/** Limits beyond which a person should look. */
export type Limits = Pick<ChangesStats, "lagMs" | "bytes" | "heldMs">;

/** Figures of a relay and its outbox. */
export interface Health extends Limits {
  /** The id of the oldest transaction that has written and is open. */
  readonly heldBy: string;
}

/** The default limits. */
export const LIMITS: Limits = { lagMs: 30_000, bytes: 2 ** 30, heldMs: 300_000 };

/** Lists the figures beyond their limit, with remedies. */
export function problemsOf(health: Health, limits: Limits): ChangesProblem[] {
  const problems: ChangesProblem[] = [];
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
        "Find a cache that no program uses any more: SELECT name FROM lookaside.caches; and forget it: " +
        "DELETE FROM lookaside.caches WHERE name = '…'. Or lower replayWindowMs",
    });
  }
  if (health.heldMs > limits.heldMs) {
    const { heldBy } = health;
    problems.push({
      problem: `Transaction ${heldBy} has been open for long, so the outbox cannot be cleaned`,
      remedy:
        `End it: SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = '${heldBy}'; ` +
        `or, if it is prepared, ROLLBACK PREPARED the gid that this answers: SELECT gid FROM ` +
        `pg_prepared_xacts WHERE transaction = '${heldBy}'`,
    });
  }
  return problems;
}

/** The oldest transaction that has written and not ended, as seen over several looks. */
export class Horizon {
  #xmin = 0n;
  #sinceMs = 0;
  #nowMs = 0;
  #isHeld = false;

  /** Records a snapshot and its time. */
  note(snapshot: string, nowMs: number): void {
    const { xmin, xmax } = parseSnapshot(snapshot);
    const wasHeld = this.#isHeld && xmin === this.#xmin;
    this.#isHeld = xmin < xmax;
    this.#nowMs = nowMs;
    if (!wasHeld) this.#sinceMs = nowMs;
    this.#xmin = xmin;
  }

  /** Time for which it has been seen, in milliseconds; 0 if there is none. */
  get heldMs(): number {
    return this.#isHeld ? this.#nowMs - this.#sinceMs : 0;
  }

  /** Its id, as in `pg_stat_activity.backend_xid`. */
  get heldBy(): string {
    return String(this.#xmin % 2n ** 32n);
  }
}
