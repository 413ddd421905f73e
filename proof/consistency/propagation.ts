// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno run -A proof/consistency/propagation.ts`: measures for how long another instance answers the old value
 * from its memory after a write was acknowledged, through the API and past it.
 *
 * One reader asks the other instance in a loop. The staleness of a write is the time from its acknowledgement to
 * the start of the last read that still answered the old version; 0 if there was none. Its precision is about
 * the duration of one read, which is printed too.
 *
 * @module
 */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import postgres from "postgres";
import { type Cluster, startCluster } from "./cluster.ts";
import { versionOf } from "./workload.ts";

const WRITES = 500;
const KEYS = 50;
const WRITER = 0;
const READER = 1;

type Write = (key: number, version: number) => Promise<void>;

if (import.meta.main) {
  await using cluster = await startCluster({ keysCount: KEYS });
  const sql = postgres(cluster.databaseUrl, { max: 1, onnotice: () => undefined });
  const reads = createHistogram();
  const byApi = await measure(cluster, reads, async (key, version) => {
    await request(cluster, WRITER, `/users/${key}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "N", email: "n@example.com", bio: `v${version}` }),
    });
  });
  const bySql = await measure(cluster, reads, async (key, version) => {
    await sql`UPDATE users SET bio = ${`v${version}`} WHERE id = ${key}`;
  });
  await sql.end();
  console.log(`staleness after the acknowledgement, ${WRITES} writes each, milliseconds`);
  console.log("                 p50     p99   p99.9     max");
  console.log(`API          ${row(byApi)}`);
  console.log(`psql         ${row(bySql)}`);
  console.log(`(one read    ${row(reads)})`);
}

async function measure(
  cluster: Cluster,
  reads: RecordableHistogram,
  write: Write,
): Promise<RecordableHistogram> {
  const staleness = createHistogram();
  for (let i = 0; i < WRITES; i++) {
    const key = 1 + i % KEYS;
    const before = await settle(cluster, key);
    let acknowledgedAtMs = Infinity;
    const writing = write(key, before + 1).then(() => {
      acknowledgedAtMs = performance.now();
    });
    let lastOldAtMs = -Infinity;
    for (;;) {
      const startMs = performance.now();
      const { version } = await readVersion(cluster, key);
      reads.record(micros(performance.now() - startMs));
      if (version > before) break;
      lastOldAtMs = startMs;
    }
    await writing;
    staleness.record(micros(lastOldAtMs - acknowledgedAtMs));
  }
  return staleness;
}

/** Reads until the answer comes from the reader's memory. */
async function settle(cluster: Cluster, key: number): Promise<number> {
  for (;;) {
    const { version, path } = await readVersion(cluster, key);
    if (path.includes("detail=memory")) return version;
  }
}

async function readVersion(
  cluster: Cluster,
  key: number,
): Promise<{ version: number; path: string }> {
  const response = await request(cluster, READER, `/users/${key}`);
  const { data } = await response.json();
  return { version: versionOf(data.bio), path: response.headers.get("cache-status") ?? "" };
}

async function request(
  cluster: Cluster,
  at: number,
  path: string,
  init?: RequestInit,
): Promise<Response> {
  const response = await cluster.instances[at]?.service.fetch(path, init);
  if (response?.ok) {
    if (init !== undefined) await response.body?.cancel();
    return response;
  }
  throw new Error(`Cannot measure: ${path} answered ${response?.status}`);
}

function micros(durationMs: number): number {
  return Math.max(1, Math.round(durationMs * 1_000));
}

function row(histogram: RecordableHistogram): string {
  const figures = [
    histogram.percentile(50),
    histogram.percentile(99),
    histogram.percentile(99.9),
    histogram.max,
  ];
  return figures.map((value) => (value / 1_000).toFixed(1).padStart(7)).join(" ");
}
