import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type Case, cases } from "./requests.ts";
import { mayWrite, type UserChange, writeOf } from "./verdict.ts";
import { sendRaw, type WireAnswer, WireClient, type WireRequest } from "./wire.ts";
import type { FuzzWorld } from "./world.ts";

/** Requests sent at once. */
const BATCH = 32;

/** Number of batches between looks at Redis, small because entries with a short life must be seen too. */
const LOOK_EVERY = 64;

/** The results of a run. */
export interface FuzzFigures {
  /** Everything that was sent. */
  readonly requests: number;
  /** The raw ones, which no HTTP client would send. */
  readonly raw: number;
  /** Number of answers by status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Number of raw ones that the server closed without an answer. */
  readonly unanswered: number;
  /** Successful changes of users. */
  readonly writes: number;
  /** Keys in Redis at the end. */
  readonly keys: number;
  /** The longest duration of a well-formed request, in milliseconds. */
  readonly slowestMs: number;
}

export interface FuzzOptions {
  /** Number of requests, rounded up to whole batches. */
  readonly requests: number;
  /** Repeats a run. Default: a random seed. */
  readonly seed?: number;
}

/**
 * Sends requests to a service, and checks their effects in Redis and in Postgres.
 *
 * @throws {Error} Something was wrong. The message has the seed and a minimal batch.
 */
export async function fuzz(world: FuzzWorld, options: FuzzOptions): Promise<FuzzFigures> {
  const run = new Run(world);
  const { pid } = world.service;
  await using _clients = run;
  const batches = fc.array(cases(await world.routes()), { minLength: BATCH, maxLength: BATCH });
  await fc.assert(fc.asyncProperty(batches, (batch) => run.batch(batch)), {
    numRuns: Math.ceil(options.requests / BATCH),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    // Minimising a batch sends more requests, so it needs a limit.
    interruptAfterTimeLimit: 30 * 60_000,
    markInterruptAsFailure: true,
  });
  await run.look();
  await run.compareWrites();
  assertEquals(world.service.pid, pid);
  const complaints = world.service.log.split("\n").filter((line) =>
    /"level":"(ERROR|FATAL)"/.test(line)
  );
  assertEquals(complaints, []);
  return run.figures;
}

class Run implements AsyncDisposable {
  readonly #world: FuzzWorld;
  readonly #clients: readonly WireClient[];
  readonly #statuses = new Map<number, number>();
  readonly #told: UserChange[] = [];
  #requests = 0;
  #raw = 0;
  #rawDone = 0;
  #unanswered = 0;
  #keys = 0;
  #slowestMs = 0;
  #batches = 0;

  constructor(world: FuzzWorld) {
    this.#world = world;
    this.#clients = Array.from({ length: BATCH }, () => new WireClient(world.service.port));
  }

  get figures(): FuzzFigures {
    const statuses = [...this.#statuses].sort(([a], [b]) => a - b);
    return {
      requests: this.#requests,
      raw: this.#raw,
      statuses: Object.fromEntries(statuses),
      unanswered: this.#unanswered,
      writes: this.#told.length,
      keys: this.#keys,
      slowestMs: this.#slowestMs,
    };
  }

  async batch(batch: readonly Case[]): Promise<void> {
    const sent = await Promise.allSettled(batch.map((each, at) => this.#send(each, at)));
    for (const outcome of sent) if (outcome.status === "rejected") throw outcome.reason;
    if (++this.#batches % LOOK_EVERY === 0) await this.look();
  }

  /** Checks the keys in Redis. */
  async look(): Promise<void> {
    const { count, unknown } = await this.#world.unknownKeys();
    this.#keys = count;
    assertEquals(unknown, [], "keys that no valid request makes");
  }

  /**
   * Compares the changes in the database with the answers: each reported change was made, and no other, except
   * by a raw request that contained a whole one.
   */
  async compareWrites(): Promise<void> {
    assertEquals(
      await this.#world.invalidChanges(),
      [],
      "rows that validation should have stopped",
    );
    const made = new Map<string, number>();
    const changes = await this.#world.changes();
    for (const change of changes) count(made, keyOf(change));
    for (const change of this.#told) {
      const left = made.get(keyOf(change)) ?? 0;
      assert(left > 0, `told and not made: ${keyOf(change)}`);
      made.set(keyOf(change), left - 1);
    }
    const untold = changes.length - this.#told.length;
    assert(untold <= this.#rawDone, `${untold} changes that no answer told of`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client[Symbol.dispose]();
    await Promise.resolve();
  }

  async #send(each: Case, at: number): Promise<void> {
    this.#requests++;
    if (each.kind === "request") return await this.#sendWellFormed(each.request, at);
    this.#raw++;
    const statuses = await sendRaw(this.#world.service.port, each.bytes);
    if (statuses.length === 0) this.#unanswered++;
    for (const status of statuses) this.#note(status);
    // Of two requests in one, both may be answered, or both done and only one answered.
    this.#rawDone += 2;
  }

  async #sendWellFormed(request: WireRequest, at: number): Promise<void> {
    const startedAtMs = performance.now();
    const answer = await this.#clients[at % BATCH]?.send(request);
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - startedAtMs);
    assert(answer !== undefined);
    this.#note(answer.status);
    if (answer.status < 300 && writeOf(request) !== undefined) {
      assert(mayWrite(request), `answered ${answer.status}, though it may not be`);
      this.#told.push(changeOf(request, answer));
    }
  }

  #note(status: number): void {
    assert(status < 500, `answered ${status}`);
    count(this.#statuses, status);
  }
}

function changeOf(request: WireRequest, { text }: WireAnswer): UserChange {
  const write = writeOf(request);
  assert(write !== undefined);
  if (write.op === "DELETE") return { op: write.op, id: Number(write.id) };
  return { op: write.op, ...JSON.parse(text).data };
}

function keyOf({ op, id, name, email, bio }: UserChange): string {
  return JSON.stringify(op === "DELETE" ? [op, id] : [op, id, name, email, bio]);
}

function count<Key>(counts: Map<Key, number>, key: Key): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
