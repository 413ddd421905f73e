/**
 * An instance of the service in this process, as `main.ts` composes it, with a clock that can be set.
 *
 * @module
 */
import { connect } from "@db/driver";
import { Cache, type Clock, systemRuntime } from "../../cache/mod.ts";
import { parseConfig } from "../../config.ts";
import { ChangeFeed } from "../../db/changes.ts";
import { Users } from "../../db/users.ts";
import { applyChanges, resetCache } from "../../invalidation.ts";
import { createApp } from "../../routes/app.ts";
import type { Instance } from "./world.ts";

/** The system's clock, with a wall time that can be set. */
export class SteppedClock implements Clock {
  /** Added to the wall time. */
  stepMs = 0;

  now(): number {
    return systemRuntime.clock.now() + this.stepMs;
  }

  monotonicNow(): number {
    return systemRuntime.clock.monotonicNow();
  }

  after(delayMs: number, run: () => void): ReturnType<Clock["after"]> {
    return systemRuntime.clock.after(delayMs, run);
  }
}

/** Starts an instance. */
export function startInProcess(
  env: Readonly<Record<string, string>>,
  clock: Clock,
): Instance & AsyncDisposable {
  const config = parseConfig(env);
  const stack = new AsyncDisposableStack();
  const database = stack.use(connect(config.database));
  const cache: Cache = stack.use(
    new Cache({
      ...config.cache,
      runtime: { ...systemRuntime, clock },
      catchUp: (options) => changes.catchUp(options),
    }),
  );
  const changes = stack.use(
    new ChangeFeed(database, {
      ...config.changes,
      cacheName: config.changes.cacheName ?? "in process",
      cacheEnds: false,
      apply: (batch) => applyChanges(cache, batch),
      reset: () => resetCache(cache),
    }),
  );
  changes.start();
  const app = createApp({
    ...{ cache, clock, changes, users: new Users(database), listTtlMs: config.http.listTtlMs },
    access: { adminTokens: [], open: true },
    warm: () => Promise.resolve(0),
    ready: () => Promise.resolve(true),
    onError: () => undefined,
  });
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => undefined },
    app.fetch,
  );
  stack.defer(() => server.shutdown());
  const url = `http://127.0.0.1:${server.addr.port}`;
  return {
    target: { url, fetch: (path, init) => fetch(url + path, init) },
    life: 0,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
