import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Command } from "ioredis";
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
    pipeline: Pipeline,
    keys: readonly string[],
    values: readonly ScriptValue[],
  ): Promise<unknown> {
    let bytes = 0;
    for (const value of values) if (value instanceof Uint8Array) bytes += value.length;
    const send = (name: string, script: string): Promise<unknown> =>
      pipeline.send(
        this.#name,
        (client) => {
          const command = new ScriptCommand(name, [script, keys.length, ...keys, ...values]);
          client.sendCommand(command);
          return command.promise;
        },
        keys.length,
        bytes,
      );
    try {
      return await send("evalsha", this.#sha);
    } catch (error) {
      if (!isUnknownScript(error)) throw error;
      return await send("eval", this.#lua);
    }
  }
}

const NOT_ASCII = /[^\0-\x7f]/;

/**
 * A command with many arguments. The client's own way to write it computes the bytes of each argument three
 * times and copies each for itself, which costs more than the rest of a fill.
 */
class ScriptCommand extends Command {
  override toWritable(): string | Buffer {
    const parts: (string | Buffer)[] = [];
    let text = `*${this.args.length + 1}\r\n$${this.name.length}\r\n${this.name}\r\n`;
    for (const arg of this.args) {
      if (arg instanceof Buffer) {
        parts.push(`${text}$${arg.length}\r\n`, arg);
        text = "\r\n";
      } else {
        const argument = String(arg);
        const bytes = NOT_ASCII.test(argument) ? Buffer.byteLength(argument) : argument.length;
        text += `$${bytes}\r\n${argument}\r\n`;
      }
    }
    return parts.length === 0 ? text : joined([...parts, text]);
  }
}

function joined(parts: readonly (string | Buffer)[]): Buffer {
  let bytesMax = 0;
  for (const part of parts) bytesMax += part.length * (typeof part === "string" ? 3 : 1);
  const bytes = Buffer.allocUnsafe(bytesMax);
  let end = 0;
  for (const part of parts) {
    end += typeof part === "string" ? bytes.write(part, end) : part.copy(bytes, end);
  }
  return bytes.subarray(0, end);
}
