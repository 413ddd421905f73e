import type { Connection } from "./connection.ts";
import type { KeyPart, Keyspace } from "../keys.ts";
import type { ServerLives } from "../catch_up.ts";
import { OtherSourceError } from "../errors.ts";
import { ACQUIRE_LUA, leaseOf } from "../lease.ts";
import type { Pipeline } from "./pipeline.ts";
import { isOutOfMemory, isReply, refuses } from "./reply_errors.ts";
import { Script } from "./scripts.ts";
import { lifeOf } from "./server_life.ts";
import { ROOT_TAG } from "../tags.ts";

/** Time for which the servers count as in use after the last claim of their owner. */
const IN_USE_MS = 60_000;
/** A hash that no script has. */
const NO_SCRIPT = "0".repeat(40);

/**
 * KEYS: source, in use. ARGV: the name of the source, for how long it is in use, `take over` to replace another.
 * Answers the owner, and 1 if it is in use. A server that is out of memory still runs PEXPIRE.
 */
const CLAIM_LUA = `
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'string' and standing ~= ARGV[1] and ARGV[3] == '' then
  return {standing, redis.pcall('GET', KEYS[2]) and 1 or 0}
end
if standing ~= ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
if redis.call('PEXPIRE', KEYS[2], ARGV[2]) == 0 then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[2])
end
return {ARGV[1], 1}
`;

const CLAIM = new Script("claim", CLAIM_LUA);
const ACQUIRE = new Script("acquire", ACQUIRE_LUA);

/**
 * Tells whose data the servers have, and since when, by what processes have noted there: the life in which the
 * servers were last caught up with, and the source of truth of the values.
 *
 * Without the latter, two programs with different databases and one Redis would answer each other's rows. A program
 * that finds the mark of another source refuses the servers while they are in use; later it clears them and takes
 * them over.
 */
export class Provenance implements ServerLives {
  readonly #connection: Connection;
  readonly #pipeline: Pipeline;
  readonly #keyspace: Keyspace;
  #ownRootTag: string | undefined;
  #isClaimed = false;

  constructor(connection: Connection, pipeline: Pipeline, keyspace: Keyspace) {
    this.#connection = connection;
    this.#pipeline = pipeline;
    this.#keyspace = keyspace;
  }

  /**
   * Tells one life of the servers from the next: differs after a restart or a failover. Rejects unless they take
   * what every read needs.
   */
  async identity(): Promise<string> {
    const primaries = await this.#connection.proved();
    const identity = await this.#pipeline.send("info", async () => {
      return (await Promise.all(primaries.map(lifeOf))).sort().join(" ");
    });
    await this.#prove();
    return identity;
  }

  /**
   * Reads the life in which the servers were last caught up with; empty if Redis has evicted it, but no entries.
   */
  remembered(): Promise<string | null> {
    return this.#read(":caught-up");
  }

  /** Notes that there was no root tag before this process created it with that version. */
  noteRootTag(version: string): void {
    this.#ownRootTag = version;
  }

  /** Notes that the servers were caught up with in this life. */
  async remember(identity: string): Promise<void> {
    const key = this.#keyOf(":caught-up");
    await this.#pipeline.send("set", (client) => client.set(key, identity));
  }

  /**
   * Claims the servers for a source of truth. If they are another's and not in use, `clear` clears them first.
   *
   * @throws {OtherSourceError} They are in use for another.
   */
  async claim(source: string, clear: () => Promise<void>): Promise<void> {
    // Redis may have evicted whose they are.
    if (!this.#isClaimed && await this.#read(":source") === "") await clear();
    const [owner, isInUse] = await this.#claim(source, "");
    this.#isClaimed = owner === source;
    if (this.#isClaimed) return;
    if (isInUse) throw new OtherSourceError(this.#keyspace.prefix, { own: source, other: owner });
    // Clear before marking: a process that finds the mark of its own source trusts the data there.
    await clear();
    await this.#claim(source, "take over");
  }

  /**
   * Reads a mark; empty if it is missing, and the servers may have entries: none is valid without a root tag that
   * stood there before this process came.
   */
  async #read(mark: KeyPart): Promise<string | null> {
    const keys = [this.#keyOf(mark), this.#keyOf(":tag")];
    const [text, rootTag] = await this.#pipeline.send("mget", (client) => client.mget(...keys));
    return text ?? (rootTag && rootTag !== this.#ownRootTag ? "" : null);
  }

  async #claim(source: string, how: "" | "take over"): Promise<[owner: string, isInUse: boolean]> {
    const keys = [this.#keyOf(":source"), this.#keyOf(":source-in-use")];
    const reply = await CLAIM.run(this.#pipeline, keys, [source, IN_USE_MS, how]);
    const [owner, inUse] = Array.isArray(reply) ? reply : [];
    return [String(owner), inUse === 1];
  }

  /** Runs what every read needs, as the servers may refuse it. */
  async #prove(): Promise<void> {
    const pipeline = this.#pipeline;
    const keys = [this.#keyOf(""), this.#keyOf(":lease")] as const;
    const [key] = keys;
    await pipeline.send("get", async () => {
      const primaries = await this.#connection.primaries();
      const asked = primaries.flatMap((each) => [each.get(key), each.evalsha(NO_SCRIPT, 1, key)]);
      await Promise.all(asked.map(permitted));
    });
    if (this.#connection.anySlot) await pipeline.send("mget", (client) => client.mget(...keys));
    try {
      await ACQUIRE.run(pipeline, keys, [1, leaseOf(crypto.randomUUID(), []), ""]);
    } catch (error) {
      // What is stored already can be read.
      if (!isOutOfMemory(error)) throw error;
    }
  }

  #keyOf(part: KeyPart): string {
    return this.#keyspace.of(ROOT_TAG, part);
  }
}

/** Rejects if the server does not permit the command. Other error replies, such as `NOSCRIPT`, show that it does. */
async function permitted(command: Promise<unknown>): Promise<void> {
  try {
    await command;
  } catch (error) {
    if (!isReply(error) || refuses(error)) throw error;
  }
}
