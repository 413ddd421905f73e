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
}

/**
 * Tells whose data the servers have, and since when, by what processes have noted there: the life in which the
 * servers were last caught up with, and the source of the values.
 */
export class Provenance {
  readonly #connection: Connection;
  readonly #scripts: ScriptRunner;
  readonly #options: ProvenanceOptions;

  constructor(connection: Connection, scripts: ScriptRunner, options: ProvenanceOptions) {
    this.#connection = connection;
    this.#scripts = scripts;
    this.#options = options;
  }

  /** Tells one life of the servers from the next: differs after a restart or a failover. */
  async identity(): Promise<string> {
    const primaries = await this.#connection.proved();
    return await this.#scripts.pipeline.send("info", async () => {
      return (await Promise.all(primaries.map(lifeOf))).sort().join(" ");
    });
  }

  /** Reads the life in which the servers were last caught up with; `null` also if the key has another type. */
  async remembered(): Promise<string | null> {
    const { client, pipeline } = this.#scripts;
    try {
      return await pipeline.send("get", () => client.get(this.#keyOf(":caught-up")));
    } catch (error) {
      if (isWrongType(error)) return null;
      throw error;
    }
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

  #keyOf(part: KeyPart): string {
    return this.#options.keyspace.of(ROOT_TAG, part);
  }
}
