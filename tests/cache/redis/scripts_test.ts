import { Buffer } from "node:buffer";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { Redis } from "ioredis";
import type { Client } from "../../../cache/redis/connection.ts";
import type { Pipeline } from "../../../cache/redis/pipeline.ts";
import { Script, type ScriptValue } from "../../../cache/redis/scripts.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";

const ECHO = new Script("echo", "return {KEYS, ARGV}");

const texts = fc.string({ unit: "binary", maxLength: 20 });
const buffers = fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes));
const values = fc.array(fc.oneof(texts, buffers, fc.integer()), { maxLength: 6 });

describe("A script", () => {
  it("gets every key and value as it was given: text of any alphabet, bytes, numbers, nothing", async () => {
    await using server = await startRedis();
    const client = new Redis(server.url, { commandTimeout: 2_000 });
    const pipeline = sendsAtOnce(client);
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(texts, { maxLength: 6 }), values, async (keys, given) => {
          const reply = await ECHO.run(pipeline, keys, given);
          assertEquals(reply, [keys.map(bytesOf), given.map(bytesOf)]);
        }),
      );
    } finally {
      client.disconnect();
    }
  });
});

/** Sends without limits. */
function sendsAtOnce(client: Redis): Pipeline {
  const send = <T>(_command: string, run: (client: Client) => Promise<T>): Promise<T> =>
    run(client);
  return { send } as unknown as Pipeline;
}

function bytesOf(value: ScriptValue): Buffer {
  return typeof value === "object" ? value : Buffer.from(String(value));
}
