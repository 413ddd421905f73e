/**
 * Readers and writers on instances of a cache, while its servers have faults.
 *
 * @module
 */
import { assertEquals, assertGreater } from "@std/assert";
import { setTimeout as delay } from "node:timers/promises";
import type { Cache, ChangeSource } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import {
  changesThat,
  coherent,
  freshPrefix,
  type Node,
  openNode,
} from "../../tests/cache/redis/nodes.ts";

/** Time for which memory is trusted without a sign of life. */
const MEMORY_LEASE_MS = 1_000;

/** Allowance for late timers on a busy machine. */
const SLACK_MS = 500;

/** Pause of readers and writers. */
const PAUSE_MS = 2;

/** The results of a {@linkcode Workload}. */
export interface Outcome {
  /** Number of answered reads, by source. */
  readonly sources: Readonly<Record<"memory" | "redis" | "load", number>>;
  /** Number of writes, by the outcome of their invalidation. */
  readonly writes: Readonly<Record<"applied" | "pending", number>>;
  /** Errors of reads and writes. */
  readonly rejected: readonly string[];
  /** Answers older than an acknowledged write. */
  readonly stale: readonly string[];
}

/** An acknowledged write: its time and instance. */
interface Acknowledged {
  readonly version: number;
  readonly atMs: number;
  readonly by: number;
  /** If false, only the instance of the write guarantees it. */
  readonly applied: boolean;
}

/** A row of the source. */
interface Row {
  version: number;
  readonly acknowledged: Acknowledged[];
}

/** Two instances with readers and a writer each. */
export class Workload implements AsyncDisposable {
  /** The instances. */
  readonly nodes: readonly Node[];
  readonly #rows: ReadonlyMap<string, Row>;
  readonly #running: Promise<void>[] = [];
  readonly #sources = { memory: 0, redis: 0, load: 0 };
  readonly #writes = { applied: 0, pending: 0 };
  readonly #rejected: string[] = [];
  readonly #stale: string[] = [];
  #stopped = false;

  /** Use {@linkcode startWorkload}. */
  constructor(nodes: readonly Node[], keys: readonly string[]) {
    this.nodes = nodes;
    this.#rows = new Map(keys.map((key) => [key, { version: 0, acknowledged: [] }]));
  }

  /** The results so far. */
  get outcome(): Outcome {
    return {
      sources: { ...this.#sources },
      writes: { ...this.#writes },
      rejected: [...this.#rejected],
      stale: [...this.#stale],
    };
  }

  start(): void {
    for (const [at, { cache }] of this.nodes.entries()) {
      for (let reader = 0; reader < 3; reader++) {
        this.#running.push(this.#repeat((key, row) => this.#read(cache, at, { key, row })));
      }
      this.#running.push(this.#repeat((key, row) => this.#write(cache, at, { key, row })));
    }
  }

  /** Continues until that many more reads have been answered from Redis or memory. */
  async untilHits(count: number): Promise<void> {
    const { memory, redis } = this.#sources;
    while (this.#sources.memory + this.#sources.redis < memory + redis + count) await delay(10);
  }

  /** Stops, and answers the results. */
  async stop(): Promise<Outcome> {
    this.#stopped = true;
    await Promise.all(this.#running);
    return this.outcome;
  }

  /** Stops, and closes the instances. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await Promise.all(this.nodes.map(({ cache }) => cache.close()));
  }

  async #repeat(act: (key: string, row: Row) => Promise<void>): Promise<void> {
    const rows = [...this.#rows];
    for (let turn = 0; !this.#stopped; turn++) {
      const [key, row] = rows[Math.floor(Math.random() * rows.length)] ?? [];
      if (key === undefined || row === undefined) return;
      try {
        await act(key, row);
      } catch (error) {
        this.#rejected.push(`${key}: ${error}`);
      }
      await delay(PAUSE_MS);
    }
  }

  async #read(cache: Cache, node: number, { key, row }: { key: string; row: Row }): Promise<void> {
    const startedMs = performance.now();
    const acknowledged = [...row.acknowledged];
    const found = await cache.getOrLoad(key, () => Promise.resolve(row.version));
    this.#sources[found.source]++;
    // Another instance's memory may lag, but not its answers from Redis.
    const lagMs = found.source === "memory" ? MEMORY_LEASE_MS + SLACK_MS : 0;
    const due = acknowledged
      .filter(({ by, atMs, applied }) => by === node || (applied && atMs <= startedMs - lagMs))
      .reduce((latest, { version }) => Math.max(latest, version), 0);
    const version = found.value() ?? -1;
    if (version < due) this.#stale.push(`${key} of ${due} was ${version} in ${found.source}`);
  }

  async #write(cache: Cache, node: number, { key, row }: { key: string; row: Row }): Promise<void> {
    const version = ++row.version;
    const outcome = await cache.delete(key);
    this.#writes[outcome]++;
    const applied = outcome === "applied";
    row.acknowledged.push({ version, atMs: performance.now(), by: node, applied });
    await delay(10 * PAUSE_MS);
  }
}

/** The invalidations of all writes, replayed if a server may have lost them. */
function changesOf(keys: readonly string[]): ChangeSource {
  return changesThat(async (server, replay) => {
    if (replay && await server.delete(...keys) === "pending") {
      throw new Error("Cannot catch up: the server has not taken it");
    }
  });
}

/** Opens two instances and puts them under load. */
export async function startWorkload(url: string, keys: readonly string[]): Promise<Workload> {
  const prefix = freshPrefix();
  const nodes = [0, 1].map((): Node => {
    const node: Node = openNode(url, {
      prefix,
      commandTimeoutMs: 500,
      memoryLeaseMs: MEMORY_LEASE_MS,
      changes: changesOf(keys),
    });
    return node;
  });
  const workload = new Workload(nodes, keys);
  try {
    await coherent(...nodes);
  } catch (error) {
    await workload[Symbol.asyncDispose]();
    throw error;
  }
  workload.start();
  return workload;
}

/** Waits until both instances answer from Redis and memory again. */
export async function inUse({ nodes }: Workload): Promise<void> {
  await eventually(() => coherent(...nodes), { deadlineMs: 20_000 });
}

/** Asserts that nothing was rejected or stale, and that there was a load. */
export function assertRight({ rejected, stale, sources, writes }: Outcome): void {
  assertEquals(stale, []);
  assertEquals(rejected, []);
  for (const count of [sources.memory, sources.redis, sources.load, writes.applied]) {
    assertGreater(count, 0);
  }
}
