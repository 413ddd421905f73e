/**
 * An instance of the service in this process, composed as in `main.ts`, with a clock that can be set.
 *
 * @module
 */
import { connect } from "@db/driver";
import { Cache, type Clock, systemRuntime } from "../../cache/mod.ts";
import { parseConfig } from "../../server/config.ts";
import { postgresChanges } from "../../changes/mod.ts";
import { changesDatabase } from "../../db/changes_database.ts";
import { resources } from "../../routes/resources.ts";
import { openTables } from "../../routes/table.ts";
import { createApi } from "../../tests/routes/api_fixture.ts";
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
      changes: postgresChanges(changesDatabase(database), {
        ...config.changes,
        listen: config.changes.listen && changesDatabase(database),
      }),
    }),
  );
  const tables = openTables(resources, database);
  const { listTtlMs } = config.http;
  const api = stack.use(createApi({ cache, clock, tables, listTtlMs }));
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => undefined },
    (request) => api.fetch(request),
  );
  stack.defer(() => server.shutdown());
  const url = `http://127.0.0.1:${server.addr.port}`;
  return {
    target: { url, fetch: (path, init) => fetch(url + path, init) },
    life: 0,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
