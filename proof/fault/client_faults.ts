/**
 * Faults in which an instance dies or clients misbehave. Other clients must not notice.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { type Fault, faultsOf, type Heal, startDefaultWorld } from "./fault.ts";
import type { Instance, World } from "./world.ts";

const IDLE_CONNECTIONS = 10_000;
/** Connections opened at once: the kernel queues at most a few thousand. */
const CONNECT_BATCH = 200;
/** Files that a process needs besides the idle connections. */
const OTHER_FILES = 500;
const SLOW_CLIENTS = 200;
const MALFORMED_REST_MS = 2;
const ANSWER_MS_MAX = 2_000;

const encoder = new TextEncoder();

/** Invalid or oversized requests, each sent on its own connection. */
const MALFORMED: readonly Uint8Array[] = [
  "GET /users/1 HTTP/1.1\r\nHost: a\r\nX-Long: " + "x".repeat(1024 ** 2) + "\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nHost: a\r\n" + "X-Many: 1\r\n".repeat(10_000) + "\r\n",
  "GET /" + "x".repeat(100_000) + " HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /users/1 HTTP/9.9\r\nHost: a\r\n\r\n",
  "G\x00T /users/1 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /users/1\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nHost: a\r\nX-Bad: \x00\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\n: no name\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nno colon\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nHost: a b/c?d#e\r\n\r\n",
  "PUT /users/1 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
  "PUT /users/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
  "PUT /users/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" +
  "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00".repeat(100),
  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  "*1\r\n$4\r\nPING\r\n",
  "\r\n\r\n\r\n\r\n\r\n",
].map((text) => encoder.encode(text));

/** Bytes that a client sends before it disconnects. */
const UNFINISHED: readonly Uint8Array[] = [
  "GET /users/1 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /users?page=1&limit=100 HTTP/1.1\r\nHost: a\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nHo",
  "PUT /users/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" +
  'Content-Length: 500\r\n\r\n{"name":',
].map((text) => encoder.encode(text));

/** The rows. */
export const CLIENT_FAULTS: readonly Fault[] = faultsOf(startDefaultWorld, [
  {
    name: "an instance killed (SIGKILL)",
    short: true,
    tolerates: "first instance",
    start: async ({ instances }) => {
      const { instance, service } = processOf(instances);
      await service.kill();
      instance.life++;
      return () => service.start();
    },
  },
  {
    name: `${IDLE_CONNECTIONS.toLocaleString("en")} idle connections`,
    prepare: async ({ instances }) => {
      const own = await openFilesMax(Deno.pid);
      const served = await openFilesMax(processOf(instances).service.pid);
      const most = Math.min(own, served);
      if (most >= IDLE_CONNECTIONS + OTHER_FILES) return () => undefined;
      return `a process may open ${most} files (ulimit -n)`;
    },
    start: openIdle,
    remark: ({ instances }) => sizeOf(instances),
  },
  {
    name: `${SLOW_CLIENTS} clients that send a byte a second`,
    start: (world) =>
      keepDoing(SLOW_CLIENTS, async (stopped) => {
        using connection = await connectTo(world);
        const bytes = UNFINISHED[3] ?? new Uint8Array();
        for (let at = 0; !stopped(); at = (at + 1) % bytes.length) {
          await connection.write(bytes.subarray(at, at + 1));
          for (let i = 0; i < 20 && !stopped(); i++) await delay(50);
        }
      }),
  },
  {
    name: "malformed HTTP, headers of a megabyte",
    short: true,
    start: (world) => {
      let next = 0;
      return keepDoing(2, async () => {
        const bytes = MALFORMED[next++ % MALFORMED.length] ?? new Uint8Array();
        const answer = await exchange(world, bytes);
        if (/^HTTP\/1.1 5/.test(answer)) {
          throw new Error(`Cannot accept the answer to ${next % MALFORMED.length}: ${answer}`);
        }
        await delay(MALFORMED_REST_MS);
      });
    },
  },
  {
    name: "clients that leave in mid-request",
    short: true,
    start: (world) => {
      let next = 0;
      return keepDoing(4, async () => {
        using connection = await connectTo(world);
        await connection.write(UNFINISHED[next++ % UNFINISHED.length] ?? new Uint8Array());
        await delay(next % 4);
      });
    },
  },
]);

/** Repeats something, several times at once, until healed. Healing fails if one failed. */
function keepDoing(times: number, run: (stopped: () => boolean) => Promise<void>): Heal {
  let stopped = false;
  const loops = Promise.allSettled(Array.from({ length: times }, async () => {
    while (!stopped) await run(() => stopped);
  }));
  return async () => {
    stopped = true;
    for (const loop of await loops) if (loop.status === "rejected") throw loop.reason;
  };
}

async function openIdle(world: World): Promise<Heal> {
  const open: Deno.Conn[] = [];
  while (open.length < IDLE_CONNECTIONS) {
    const batch = Array.from({ length: CONNECT_BATCH }, () => connectTo(world));
    open.push(...await Promise.all(batch));
  }
  return () => {
    for (const connection of open) connection.close();
  };
}

/** Sends bytes and answers the beginning of the answer; empty if there is none. */
async function exchange(world: World, bytes: Uint8Array): Promise<string> {
  using connection = await connectTo(world);
  const timer = setTimeout(() => connection.close(), ANSWER_MS_MAX);
  const buffer = new Uint8Array(1_024);
  try {
    const answered = connection.read(buffer);
    // A server that refuses does not read to the end.
    const sent = sendAll(connection, bytes).catch(() => undefined);
    const size = await answered.catch(() => null);
    await sent;
    return new TextDecoder().decode(buffer.subarray(0, size ?? 0));
  } finally {
    clearTimeout(timer);
  }
}

async function sendAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await connection.write(bytes.subarray(sent));
}

async function connectTo({ instances }: World): Promise<Deno.TcpConn> {
  const url = new URL(processOf(instances).service.url);
  return await Deno.connect({ hostname: url.hostname, port: Number(url.port) });
}

function processOf([instance]: readonly Instance[]) {
  if (instance?.service === undefined) throw new Error("Cannot name its process: it has none");
  return { instance, service: instance.service };
}

async function openFilesMax(pid: number): Promise<number> {
  const limits = await Deno.readTextFile(`/proc/${pid}/limits`);
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 0);
}

async function sizeOf(instances: readonly Instance[]): Promise<string> {
  const { pid } = processOf(instances).service;
  const status = await Deno.readTextFile(`/proc/${pid}/status`);
  const mebibytes = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1_024;
  const files = (await Array.fromAsync(Deno.readDir(`/proc/${pid}/fd`))).length;
  return `the instance holds ${files} files and ${mebibytes.toFixed(0)} MiB`;
}
