import type { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Client } from "./connection.ts";
import type { Pipeline } from "./pipeline.ts";
import { isUnknownScript } from "./reply_errors.ts";

/** An argument of a script. */
export type ScriptValue = string | number | Buffer;

/** A Lua script, which Redis runs atomically. */
export class Script {
  readonly #name: string;
  readonly #lua: string;
  readonly #sha: string;

  /** @param name Used in error messages. */
  constructor(name: string, lua: string) {
    this.#name = name;
    this.#lua = lua;
    this.#sha = createHash("sha1").update(lua).digest("hex");
  }

  /**
   * Runs the script by its hash; in full if the server does not know it, which happens after a restart or
   * `SCRIPT FLUSH`.
   */
  async run(
    { client, pipeline }: { readonly client: Client; readonly pipeline: Pipeline },
    keys: readonly string[],
    values: readonly ScriptValue[],
  ): Promise<unknown> {
    const commands = client as Client & ScriptCommands;
    const rest = [...keys, ...values];
    let bytes = 0;
    for (const value of values) if (value instanceof Uint8Array) bytes += value.length;
    try {
      return await pipeline.send(
        this.#name,
        () => commands.evalshaBuffer(this.#sha, keys.length, ...rest),
        bytes,
      );
    } catch (error) {
      if (!isUnknownScript(error)) throw error;
      return await pipeline.send(
        this.#name,
        () => commands.evalBuffer(this.#lua, keys.length, ...rest),
        bytes,
      );
    }
  }
}

/**
 * Methods that ioredis generates for every command name, but leaves out of its types. (Its `callBuffer` is
 * typed, but loses the command's name in automatic pipelines.)
 */
interface ScriptCommands {
  evalshaBuffer(sha: string, keysCount: number, ...rest: ScriptValue[]): Promise<unknown>;
  evalBuffer(lua: string, keysCount: number, ...rest: ScriptValue[]): Promise<unknown>;
}
