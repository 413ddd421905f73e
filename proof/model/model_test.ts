// deno-lint-ignore-file no-console -- the size of a search and the trace of a violation are its result
/**
 * The protocol of the cache, searched exhaustively.
 *
 * **What is proved.** In every state that the model can reach:
 *
 * 1. When it is quiet (no read, write, message, relay, catch-up or fault is running), every tier is empty or
 *    equals the database.
 * 2. A read that begins after an acknowledged write never gets an older version: not from Redis, not from its
 *    own load or one that it joined, on any instance; not from the memory of the instance that acknowledged the
 *    write. The memory of another instance may be older only while a message of the feed is on its way to it, or
 *    while its feed is lost and its memory lease not over.
 *
 * For a write that is acknowledged as *pending* (Redis could not be reached), only 1 is guaranteed, and 2 for
 * reads through the same instance.
 *
 * **What is modelled.** One key, two readers that read repeatedly, one or two writers, two instances. Sending a
 * command, its execution and the arrival of its reply are separate steps, and anything may happen in between.
 * Versions count commits.
 *
 * | step | in the engine |
 * |---|---|
 * | GET, its reply, its answer | `Reader.#lookUp()`, `#find()`, `#hit()` |
 * | acquire, fill | `ACQUIRE_LUA`, `FILL_LUA` in `cache/lease.ts` |
 * | the query, the load failing | `Fills.underLease()`, `#load()`, `release()` |
 * | joins the load | `Loads.flight()`, compared with the lease that acquire answers |
 * | refreshes | `Fills.refresh()`: a value is served stale, or its early refresh is due |
 * | installs in memory | `MemoryTier.install()` under the install guard, `Coherence.epoch()` |
 * | drops the key | `Writer.#drop()`, which also moves the epoch and detaches the load |
 * | commits, UNLINK, is acknowledged | a transaction, then `Cache.delete()` |
 * | acknowledged as pending, the pending UNLINK | `PendingInvalidations` |
 * | dies before its delete, or never deletes | a crash there, and equally a writer that is psql |
 * | claims, notes as applied, fails; in its own steps in `relaying.ts` | `ChangeFeed.#relay()` |
 * | the feed's message, lost, noticed, back | `cache/redis/feed.ts`, `Coherence` |
 * | the last state that reaches the disk, restarts | a restart or a failover: all later is lost |
 * | reconnects, no earlier row is open, the replay | `CatchUp`, `ChangeFeed.catchUp()` |
 * | memory stands in, in its own steps in `fallback.ts` | `Fallback`, `Follower` |
 *
 * **What is abstracted away.** Time: anything with a deadline may end at any moment (leases, values, the memory
 * lease, waiting), and nothing is assumed to end in time. Several messages to one instance are one that may
 * arrive several times, as the feed merges them. A nonce is the reader that made it, and is orphaned when its
 * read ends. Waiting for another's load is ending the read and beginning another, which has a stronger
 * guarantee. Reads without Redis are left out: a query that is sent after they began answers them. The first
 * drop of `delete()`, before UNLINK, is left out: no guarantee depends on it. Two look-ups of one process
 * overlap more freely than in the engine. Tags, `clear()` and `set()` are not modelled. The replay window is
 * assumed to cover the outage, and every writer to fire the triggers.
 *
 * **What it is not.** Not the product of everything at once, which is too large: it consists of the
 * configurations in `configurations.ts`, each searched exhaustively with some of the faults. `larger.ts`
 * searches larger products of memory, crash and restart, and of relays, in minutes. And it is a model: other
 * tests show that the engine takes these steps.
 *
 * **Why to trust it.** Every configuration is searched again without each single mechanism, and must then be
 * violated; the shortest interleaving is printed.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { CASES } from "./configurations.ts";
import { fallback } from "./fallback.ts";
import { lookaside } from "./lookaside.ts";
import { memoryOnly } from "./memory_only.ts";
import { relaying, type RelayingMechanism, type RelayingOptions } from "./relaying.ts";
import { type Model, type Outcome, search } from "./search.ts";

const STATES_MAX = 4_000_000;

function holds(name: string, model: Model): void {
  const outcome = search(model, STATES_MAX);
  report(name, outcome);
  assertEquals(outcome.violation?.reason, undefined);
}

function breaks(name: string, model: Model): void {
  const outcome = search(model, STATES_MAX);
  report(name, outcome);
  assert(outcome.violation !== undefined, "the search must find it violated");
}

function report(name: string, { states, transitions, violation }: Outcome): void {
  const numbers = `${states} states, ${transitions} transitions`;
  if (violation === undefined) return console.log(`${name}: ${numbers}, never violated`);
  console.log(`${name}: violated after ${numbers}: ${violation.reason}`);
  console.log(violation.trace.join("\n"));
}

for (const { how, needs } of CASES) {
  describe(`the protocol, ${how.name}`, () => {
    it("never breaks a promise", () => holds(how.name, lookaside(how)));
    for (const without of needs) {
      it(`breaks one without: ${without}`, () => {
        breaks(`without: ${without}`, lookaside({ ...how, without }));
      });
    }
  });
}

const RELAYING: readonly (readonly [RelayingOptions, string, readonly RelayingMechanism[]])[] = [
  [{ relays: 1, marks: false }, "a relay that is notified", [
    "the promise is withdrawn",
    "looks until the writers have ended",
    "one more look after they have ended",
    "a transaction id after the withdrawal",
    "a row written before the bell is read",
    "no promise while catching up",
  ]],
  [{ relays: 2, marks: false }, "two relays of a cache, which may die", [
    "the snapshot of the look is noted",
    "transactions may commit in any order",
    "rows are noted after they are applied",
  ]],
  [{ relays: 1, marks: true }, "a writer that invalidates by itself, and may die", [
    "rows left to a writer stay open",
    "a writer reports only after its commit",
  ]],
  [{ relays: 1, marks: false, writers: 2, time: true }, "a relay that may be late, and fail", [
    "the promise is withdrawn",
    "looks until the writers have ended",
    "a transaction id after the withdrawal",
    "the snapshot of the look is noted",
    "the poll",
    "the request is repeated in time",
    "the request comes before the look",
    "a promise survives a failure",
  ]],
  [
    { relays: 1, marks: true, writers: 2, time: true },
    "a writer that invalidates by itself, and a relay that may be late, and fail",
    ["rows left to a writer stay open", "a promise survives a failure"],
  ],
  [
    { relays: 2, marks: false, writers: 2, promising: 1, time: true },
    "two relays that may die, one of which promises",
    ["the poll", "a promise expires"],
  ],
];

for (const [how, name, needs] of RELAYING) {
  describe(`relaying, ${name}`, () => {
    it("misses no change, and rests only when all are applied", () => holds(name, relaying(how)));
    for (const without of needs) {
      it(`does not without: ${without}`, () => {
        breaks(`without: ${without}`, relaying({ ...how, without }));
      });
    }
  });
}

describe("memory that stands in for Redis, a writer of its own and two past it", () => {
  it("is trusted only with every reported change", () => holds("fallback", fallback("nothing")));
  for (
    const without of [
      "the first look begins at the applied changes",
      "changes noted since the last sign of life are looked for",
      "a change ends the lease",
      "a write of the instance ends the lease",
      "memory is dropped when Redis returns",
    ] as const
  ) {
    it(`is trusted with fewer without: ${without}`, () =>
      breaks(`without: ${without}`, fallback(without)));
  }
});

describe("the protocol in memory-only mode, three readers and two writers", () => {
  it("never breaks a promise", () => holds("memory only", memoryOnly("nothing")));
  it("breaks one without: detach", () => breaks("without: detach", memoryOnly("detach")));
});
