/**
 * One run: a cluster, a workload, a nemesis, and the results.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { Checker, type Staleness, type Violation } from "./checker.ts";
import { type Cluster, MEMORY_LEASE_MS, startCluster } from "./cluster.ts";
import { randomOf, torment } from "./nemesis.ts";
import { noCounts, readOn, versionOf, type Workload, writeOn } from "./workload.ts";

/** The length and seed of a run. */
export interface RunOptions {
  readonly seconds: number;
  readonly seed: number;
  /** True to cause faults. Default true. */
  readonly faults?: boolean;
  /** Number of users that are written and read. Default 50. */
  readonly keysCount?: number;
  /** Configuration of the instances, in addition to or instead of that of a cluster. */
  readonly env?: Readonly<Record<string, string>>;
  /** The source tree of the instances. Default: this one. */
  readonly sourceRoot?: string;
}

/** The results of a run. */
export interface Report {
  readonly seed: number;
  readonly seconds: number;
  readonly availability: Workload["counts"];
  readonly staleness: ReadonlyMap<string, Staleness>;
  readonly faults: ReadonlyMap<string, number>;
  readonly violations: readonly Violation[];
  readonly violationsCount: number;
  /** Acknowledged writes that Postgres does not have. */
  readonly lost: readonly string[];
  /** Time after a last change past the service until every instance agreed with Postgres. */
  readonly agreedAfterMs: number;
}

/**
 * Time after the faults within which every instance must agree with Postgres. The driver of the JSR profile gets
 * no notifications: it polls, at 44 ms a statement.
 */
export const AGREEMENT_MS_MAX: number = Deno.env.has("TEST_IMPORT_MAP") ? 8_000 : 4_000;
/** Above every version that a run can reach. */
const LAST_VERSION = 1_000_000_000;
const AGREEMENT_GIVE_UP_MS = 15_000;
const WRITERS = 4;
const READERS_PER_INSTANCE = 4;

/** Runs, and answers the results. */
export async function runConsistency(options: RunOptions): Promise<Report> {
  const { seconds, seed, faults = true, keysCount = 50 } = options;
  await using cluster = await startCluster({ ...options, keysCount });
  const sql = postgres(cluster.databaseUrl, { max: WRITERS + 1, onnotice: () => undefined });
  const over = new AbortController();
  const random = randomOf(seed);
  const checker = new Checker(MEMORY_LEASE_MS);
  const counts = noCounts();
  const work: Workload = {
    cluster,
    checker,
    sql,
    counts,
    keysCount,
    random: randomOf(seed + 1),
    signal: over.signal,
  };
  try {
    const workers = [
      ...Array.from({ length: WRITERS }, (_, i) => writeOn(work, i, WRITERS)),
      ...cluster.instances.flatMap((_, at) =>
        Array.from({ length: READERS_PER_INSTANCE }, () => readOn(work, at))
      ),
    ];
    const nemesisOver = AbortSignal.timeout(seconds * 1_000);
    const happened = faults
      ? await torment(cluster, { random, restMsMax: restMsMaxOf(seconds), signal: nemesisOver })
      : await delay(seconds * 1_000, new Map<string, number>());
    over.abort();
    await Promise.all(workers);
    const lost = await lostWrites(sql, checker);
    const agreedAfterMs = await untilAgreed(cluster, sql, keysCount);
    return {
      seed,
      seconds,
      availability: counts,
      staleness: checker.staleness(),
      faults: happened,
      violations: checker.violations,
      violationsCount: checker.violationsCount,
      lost,
      agreedAfterMs,
    };
  } finally {
    over.abort();
    await sql.end({ timeout: 1 });
  }
}

/** A short run has as many faults as possible, a long one gives the cache time to be used. */
function restMsMaxOf(seconds: number): number {
  return seconds <= 60 ? 1_000 : 4_000;
}

/**
 * Makes every instance cache every user, changes all users once more past the service, and answers the time
 * until every instance agreed with Postgres. `Infinity`: too long.
 */
async function untilAgreed(
  cluster: Cluster,
  sql: postgres.Sql,
  keysCount: number,
): Promise<number> {
  for (const { service } of cluster.instances) {
    for (let id = 1; id <= keysCount; id++) await (await service.fetch(`/users/${id}`)).text();
  }
  await sql`UPDATE users SET bio = ${`v${LAST_VERSION}`}`;
  const startedAtMs = performance.now();
  while (performance.now() - startedAtMs < AGREEMENT_GIVE_UP_MS) {
    const agreed = await Promise.all(cluster.instances.map(async ({ service }) => {
      for (let id = 1; id <= keysCount; id++) {
        const response = await service.fetch(`/users/${id}`);
        const answer = await response.json();
        if (response.status !== 200 || versionOf(answer.data.bio) !== LAST_VERSION) return false;
      }
      return true;
    }));
    if (agreed.every(Boolean)) return performance.now() - startedAtMs;
    await delay(20);
  }
  return Infinity;
}

async function lostWrites(sql: postgres.Sql, checker: Checker): Promise<string[]> {
  const rows = await sql<{ id: number; bio: string }[]>`SELECT id, bio FROM users ORDER BY id`;
  return rows
    .filter(({ id, bio }) => versionOf(bio) < checker.newest(id))
    .map(({ id, bio }) => `user ${id}: Postgres has ${bio}, v${checker.newest(id)} was promised`);
}

/** The report for a person. */
export function render(report: Report): string {
  const lines = [`seed ${report.seed}, ${report.seconds} s`, ""];
  for (const [kind, { asked, answered }] of Object.entries(report.availability)) {
    const share = asked === 0 ? 100 : 100 * answered / asked;
    lines.push(
      `${kind.padEnd(9)} ${String(asked).padStart(9)} asked, ${share.toFixed(2)} % answered`,
    );
  }
  lines.push("");
  for (const [path, { reads, stale, worstMs }] of report.staleness) {
    const worst = worstMs.toFixed(0);
    lines.push(
      `${path.padEnd(9)} ${String(reads).padStart(9)} versions read, ${stale} older than ` +
        `the newest acknowledged, by ${worst} ms at worst`,
    );
  }
  lines.push("");
  for (const [name, count] of report.faults) lines.push(`${String(count).padStart(4)} × ${name}`);
  lines.push(
    "",
    `agreed with Postgres ${
      report.agreedAfterMs.toFixed(0)
    } ms after a last change past the service`,
    `${report.lost.length} acknowledged writes lost`,
    `${report.violationsCount} violations`,
  );
  return lines.join("\n");
}
