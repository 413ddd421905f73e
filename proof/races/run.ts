import type { RaceAdapter } from "./adapter.ts";
import { using } from "./cleanup.ts";
import type { RaceEvent } from "./history.ts";
import { type Race, races, type Verdict } from "./races.ts";
import { startPostgres } from "./servers.ts";
import { Servers, Stage } from "./stage.ts";

/** The result of one race of one library. */
export interface RaceResult extends Verdict {
  /** The library. */
  readonly library: string;
  /** The race. */
  readonly race: string;
  /** The events, in order. */
  readonly history: readonly RaceEvent[];
}

/**
 * Runs all races with each library: the libraries in parallel, each on its own Redis and database. The databases
 * are created in the Postgres of `databaseUrl`. Default: a Postgres that is started.
 *
 * @throws The reason of `stop` once that is aborted and everything that was started or created is gone.
 */
export async function runRaces(
  adapters: readonly RaceAdapter[],
  databaseUrl?: string,
  stop?: AbortSignal,
): Promise<RaceResult[]> {
  const given = databaseUrl === undefined ? undefined : {
    url: databaseUrl,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return await using(given ?? await startPostgres(), async ({ url }) => {
    const results = await Promise.allSettled(
      adapters.map(async (adapter) =>
        await using(await Servers.start(url), async (servers) => {
          const ofAdapter: RaceResult[] = [];
          for (const race of races) {
            ofAdapter.push(await unlessStopped(() => runRace(race, adapter, servers), stop));
          }
          return ofAdapter;
        })
      ),
    );
    // Settled, so that each has dropped its database before a failure ends the program.
    return results.flatMap((result) => {
      if (result.status === "rejected") throw result.reason;
      return result.value;
    });
  });
}

/** Runs a race, but waits for it no longer once `stop` is aborted. */
async function unlessStopped<T>(run: () => Promise<T>, stop?: AbortSignal): Promise<T> {
  stop?.throwIfAborted();
  const stopped = Promise.withResolvers<never>();
  const onStop = () => stopped.reject(stop?.reason);
  stop?.addEventListener("abort", onStop);
  try {
    return await Promise.race([run(), stopped.promise]);
  } finally {
    stop?.removeEventListener("abort", onStop);
  }
}

async function runRace(race: Race, adapter: RaceAdapter, servers: Servers): Promise<RaceResult> {
  return await using(await Stage.open(adapter, servers), async (stage) => {
    const verdict = await race.run(stage);
    return { library: adapter.name, race: race.name, ...verdict, history: stage.history.events };
  });
}
