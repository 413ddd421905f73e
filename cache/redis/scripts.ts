import type { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { isUnknownScript } from "./reply_errors.ts";
import type { Client } from "../topologies/servers.ts";

/** What a script works on. */
export interface ScriptArguments {
  readonly keys: readonly string[];
  readonly values: readonly (string | number | Buffer)[];
}

/** A Lua script that Redis runs as one step. */
export class Script {
  readonly #lua: string;
  readonly #sha: string;

  constructor(lua: string) {
    this.#lua = lua;
    this.#sha = createHash("sha1").update(lua).digest("hex");
  }

  /**
   * Runs it by its hash, and in full where that is not known: a restart or `SCRIPT FLUSH` forgets it. Each
   * of the two is sent by `send`.
   */
  async run(
    client: Client,
    { keys, values }: ScriptArguments,
    send: (command: () => Promise<unknown>) => Promise<unknown>,
  ): Promise<unknown> {
    const commands = client as Client & ScriptCommands;
    const rest = [...keys, ...values];
    try {
      return await send(() => commands.evalshaBuffer(this.#sha, keys.length, ...rest));
    } catch (error) {
      if (!isUnknownScript(error)) throw error;
      return await send(() => commands.evalBuffer(this.#lua, keys.length, ...rest));
    }
  }
}

/**
 * Commands that ioredis makes for every command name, and whose types it leaves out. (Its
 * `callBuffer` is typed, but loses the command's name when pipelined automatically.)
 */
interface ScriptCommands {
  evalshaBuffer(
    sha: string,
    keysCount: number,
    ...rest: (string | number | Buffer)[]
  ): Promise<unknown>;
  evalBuffer(
    lua: string,
    keysCount: number,
    ...rest: (string | number | Buffer)[]
  ): Promise<unknown>;
}
