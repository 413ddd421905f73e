import type { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Client } from "./connection.ts";
import type { Pipeline } from "./pipeline.ts";
import { isUnknownScript } from "./reply_errors.ts";

/** An argument of a script. */
export type ScriptValue = string | number | Buffer;

/** A Lua script that Redis runs as one step. */
export class Script {
  readonly #name: string;
  readonly #lua: string;
  readonly #sha: string;

  /** @param name What errors call it. */
  constructor(name: string, lua: string) {
    this.#name = name;
    this.#lua = lua;
    this.#sha = createHash("sha1").update(lua).digest("hex");
  }

  /**
   * Runs the script by its hash, and in full where the server does not know it: a restart or
   * `SCRIPT FLUSH` forgets it.
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
 * Commands that ioredis makes for every command name, and whose types it leaves out. (Its
 * `callBuffer` is typed, but loses the command's name when pipelined automatically.)
 */
interface ScriptCommands {
  evalshaBuffer(sha: string, keysCount: number, ...rest: ScriptValue[]): Promise<unknown>;
  evalBuffer(lua: string, keysCount: number, ...rest: ScriptValue[]): Promise<unknown>;
}
