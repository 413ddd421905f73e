/**
 * Faults of one Redis. None may cause a 5xx.
 *
 * @module
 */
import { GarbageServer } from "../../tests/support/garbage_server.ts";
import { type Fault, faultsOf, startDefaultWorld } from "./fault.ts";

/** Delay of each command on the way to Redis: half in each direction. */
const SLOW_MS = 50;
/** Keys that make Redis slow to load its file, and the time for each. */
const LOADING_KEYS = 3_000;
const LOADING_KEY_US = 1_000;

/** The rows. */
export const REDIS_FAULTS: readonly Fault[] = faultsOf(startDefaultWorld, [
  {
    name: "Redis killed and restarted",
    short: true,
    redisGone: true,
    start: async ({ backend: { server } }) => {
      await server.kill();
      return () => server.start();
    },
  },
  {
    name: "Redis stopped (SIGSTOP)",
    redisGone: true,
    redisHangs: true,
    start: ({ backend: { server } }) => {
      server.pause();
      return () => server.resume();
    },
  },
  {
    name: `Redis slow (${SLOW_MS} ms more per command)`,
    start: ({ backend: { proxy } }) => {
      proxy.delay(SLOW_MS / 2);
      return () => proxy.delay(0);
    },
  },
  {
    name: "Redis in a black hole (nothing arrives, nothing is closed)",
    short: true,
    redisGone: true,
    redisHangs: true,
    start: ({ backend: { proxy } }) => {
      proxy.hang();
      return () => proxy.pass();
    },
  },
  {
    name: "Redis out of memory (noeviction)",
    short: true,
    start: async ({ backend: { server } }) => {
      await server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1");
      return async () => void await server.cli("CONFIG", "SET", "maxmemory", "0");
    },
  },
  {
    name: "a read-only replica answers (READONLY)",
    short: true,
    start: async ({ backend: { server } }) => {
      await server.cli("REPLICAOF", "127.0.0.1", "1");
      return async () => void await server.cli("REPLICAOF", "NO", "ONE");
    },
  },
  {
    name: "Redis loads its file (LOADING)",
    redisGone: true,
    prepare: async ({ backend: { server } }) => {
      await server.cli("DEBUG", "POPULATE", String(LOADING_KEYS), "filler", "100");
      await server.cli("CONFIG", "SET", "loading-process-events-interval-bytes", "128");
      return async () => void await server.cli("CONFIG", "SET", "key-load-delay", "0");
    },
    start: async ({ backend: { server } }) => {
      await server.cli("CONFIG", "SET", "key-load-delay", String(LOADING_KEY_US));
      const loaded = server.cli("DEBUG", "RELOAD");
      return async () => void await loaded;
    },
  },
  {
    name: "Redis refuses the password after an ACL change",
    short: true,
    redisGone: true,
    start: async ({ backend }) => {
      await backend.changePassword("another");
      return () => backend.changePassword("first");
    },
  },
  {
    name: "garbage in place of Redis's answers",
    short: true,
    redisGone: true,
    start: ({ backend: { server, proxy } }) => {
      const stranger = new GarbageServer(new TextEncoder().encode("\x00\xff\x17garbage\r\n"));
      proxy.redirect(stranger.port);
      return async () => {
        proxy.redirect(server.port);
        await stranger[Symbol.asyncDispose]();
      };
    },
  },
]);
