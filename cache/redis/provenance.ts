import type { Connection } from "./connection.ts";
import type { KeyPart, Keyspace } from "../keys.ts";
import { isWrongType } from "./reply_errors.ts";
import { CLAIM_LUA, IN_USE_MS, type Owner } from "../source.ts";
import { Script, type ScriptRunner } from "./scripts.ts";
import { lifeOf } from "./server_life.ts";
import { ROOT_TAG } from "../tags.ts";

const CLAIM = new Script("claim", CLAIM_LUA);

/** Options of a {@linkcode Provenance}. */
export interface ProvenanceOptions {
  /** The keys of this cache. */
  readonly keyspace: Keyspace;
  /** Makes a unique text. */
  readonly newNonce: () => string;
  /** Called when another database is found under the same number (`SWAPDB`), which is not announced. */
  readonly onSwapped: () => void;
}

/**
 * Tells whose data the servers have, and since when, by what processes have noted there: a mark of the database,
 * the life in which the servers were last caught up with, and the source of the values.
 */
export class Provenance {
  readonly #connection: Connection;
  readonly #scripts: ScriptRunner;
  readonly #options: ProvenanceOptions;
  /** The mark of the database, once it has been read. */
  #mark: string | undefined;

  constructor(connection: Connection, scripts: ScriptRunner, options: ProvenanceOptions) {
    this.#connection = connection;
    this.#scripts = scripts;
    this.#options = options;
  }

  /** The key of the mark of the database. */
  get markKey(): string {
    return this.#keyOf(":database");
  }

  /** Tells one life of the servers from the next: differs after a restart, a failover or `SWAPDB`. */
  async identity(): Promise<string> {
    const { pipeline } = this.#scripts;
    const primaries = await this.#connection.proved();
    const mark = await pipeline.send("get", () => this.#readMark());
    this.#mark ??= mark;
    return await pipeline.send("info", async () => {
      return [...(await Promise.all(primaries.map(lifeOf))).sort(), mark].join(" ");
    });
  }

  /** Reads the life in which the servers were last caught up with. */
  async remembered(): Promise<string | null> {
    const key = this.#keyOf(":caught-up");
    return await this.#scripts.pipeline.send("get", () => this.#readText(key));
  }

  /** Notes that the servers were caught up with in this life. */
  async remember(identity: string): Promise<void> {
    const { client, pipeline } = this.#scripts;
    await pipeline.send("set", () => client.set(this.#keyOf(":caught-up"), identity));
  }

  /** Claims the servers for a source of truth, unless they are another's; `takeOver`: even then. */
  async claim(source: string, takeOver: boolean): Promise<Owner> {
    const keys = [this.#keyOf(":source"), this.#keyOf(":source-in-use")];
    const reply = await CLAIM.run(this.#scripts, keys, [source, IN_USE_MS, takeOver ? 1 : 0]);
    const [name, inUse] = Array.isArray(reply) ? reply : [];
    return { name: String(name), inUse: inUse === 1 };
  }

  /** Rejects if the database was replaced by another. */
  async look(): Promise<void> {
    this.judge(await this.#readMark());
  }

  /** Reads the version of the root tag. Rejects if it is that of another database. */
  async readRoot(): Promise<string | null> {
    const { client, pipeline } = this.#scripts;
    const keys = [this.#keyOf(":tag"), this.markKey];
    const [version = null, mark] = await pipeline.send("mget", () => client.mget(keys));
    this.judge(mark);
    return version;
  }

  /**
   * Notices that the database was replaced by another: `SWAPDB` is not announced.
   *
   * The other database has another version of the root tag, so its entries are invalid while this process holds
   * that version. Memory is dropped at the next heartbeat, and the version is read together with the mark.
   *
   * @throws {Error} It was. After a flush there is no mark, and nothing else either.
   */
  judge(mark: unknown): void {
    if (typeof mark !== "string") return;
    const before = this.#mark;
    this.#mark = mark;
    if (before === undefined || before === mark) return;
    this.#options.onSwapped();
    throw new Error("Cannot trust Redis: its database was swapped for another one");
  }

  /** Reads the mark of the database, which gets one if it has none. */
  async #readMark(): Promise<string> {
    const key = this.markKey;
    const mark = await this.#readText(key);
    if (mark !== null) return mark;
    await this.#scripts.client.set(key, this.#options.newNonce(), "NX");
    return await this.#readText(key) ?? "";
  }

  /** Reads a text; `null` also if the key has another type. */
  async #readText(key: string): Promise<string | null> {
    try {
      return await this.#scripts.client.get(key);
    } catch (error) {
      if (isWrongType(error)) return null;
      throw error;
    }
  }

  #keyOf(part: KeyPart): string {
    return this.#options.keyspace.of(ROOT_TAG, part);
  }
}
