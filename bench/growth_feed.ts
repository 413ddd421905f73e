/**
 * Followers of a Redis, as many as a cache has processes, and a writer whose writes they are told.
 *
 * @module
 */
import { Redis } from "ioredis";
import { Buffer } from "node:buffer";
import { createConnection, type Socket } from "node:net";

const KEYS = 1_000;
/** Writes under way at once: each is announced by itself or with some others, as under load. */
const IN_FLIGHT = 8;

/** What follows, and how. */
export interface FollowersOptions {
  readonly count: number;
  /** `broadcast`: every key of a prefix. `by key`: each key that was read since it last changed. */
  readonly mode: "broadcast" | "by key";
}

/** Followers that are connected. */
export interface Followers extends AsyncDisposable {
  /** Writes keys in turn. By key, each follower reads a key again as soon as it is told that it changed. */
  write(count: number): Promise<void>;
}

/** Connects followers to the server on a port of this machine. */
export async function openFollowers(port: number, options: FollowersOptions): Promise<Followers> {
  const { count, mode } = options;
  await using stack = new AsyncDisposableStack();
  const writer = stack.adopt(new Redis(port), (each) => each.quit().then(() => undefined));
  await writer.mset(Array.from({ length: KEYS }, (_, at) => [keyOf(at), "x"]).flat());
  const sockets: Socket[] = [];
  for (let at = 0; at < count; at++) sockets.push(await follow(port, mode));
  stack.defer(() => sockets.forEach((socket) => void socket.destroy()));
  const running = stack.move();
  return {
    write: async (count) => {
      let next = 0;
      await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
        while (next < count) await writer.set(keyOf(next++ % KEYS), "y");
      }));
    },
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** A bare socket: the client's own work is not what is measured. */
async function follow(port: number, mode: FollowersOptions["mode"]): Promise<Socket> {
  const socket = createConnection({ host: "127.0.0.1", port });
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  const send = (...words: string[]) => socket.write(commandOf(words));
  send("HELLO", "3");
  if (mode === "broadcast") {
    send("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "growth:");
    socket.on("data", () => {});
  } else {
    send("CLIENT", "TRACKING", "ON");
    for (let at = 0; at < KEYS; at++) send("GET", keyOf(at));
    socket.on("data", (bytes: Buffer) => {
      const text = bytes.toString("latin1");
      if (!text.includes("invalidate")) return;
      for (const [key] of text.matchAll(/growth:\d+/g)) send("GET", key);
    });
  }
  // Answered behind all that was sent before.
  await new Promise<void>((resolve) => {
    const onData = (bytes: Buffer) => {
      if (!bytes.toString("latin1").includes("+PONG")) return;
      socket.off("data", onData);
      resolve();
    };
    socket.on("data", onData);
    send("PING");
  });
  return socket;
}

function commandOf(words: readonly string[]): string {
  return `*${words.length}\r\n${
    words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")
  }`;
}

function keyOf(at: number): string {
  return `growth:${at}`;
}
