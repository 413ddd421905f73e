import { startPostgres } from "../../tools/servers/postgres_server.ts";
import type { RaceAdapter } from "./adapter.ts";
import type { RaceEvent } from "./history.ts";
import { type Race, races, type Verdict } from "./races.ts";
import { Servers, Stage } from "./stage.ts";

/** What came of one race of one library. */
export interface RaceResult extends Verdict {
  /** The library. */
  readonly library: string;
  /** The race. */
  readonly race: string;
  /** What happened, in order. */
  readonly history: readonly RaceEvent[];
}

/** Runs all races with each library: the libraries side by side, each on a Redis and a database of its own. */
export async function runRaces(adapters: readonly RaceAdapter[]): Promise<RaceResult[]> {
  await using postgres = await startPostgres({ settings: { max_connections: "300" } });
  const results = await Promise.all(adapters.map(async (adapter) => {
    await using servers = await Servers.start(postgres);
    const ofAdapter: RaceResult[] = [];
    for (const race of races) ofAdapter.push(await runRace(race, adapter, servers));
    return ofAdapter;
  }));
  return results.flat();
}

async function runRace(race: Race, adapter: RaceAdapter, servers: Servers): Promise<RaceResult> {
  await using stage = await Stage.open(adapter, servers);
  const verdict = await race.run(stage);
  return { library: adapter.name, race: race.name, ...verdict, history: stage.history.events };
}
