import { freePort } from "../tools/servers/free_port.ts";
import type { ServerProcess } from "../tools/servers/server_process.ts";
import { startByCommand } from "../tools/servers/start_command.ts";
import { processorMsOf } from "./_processor_time.ts";
import { loadGenerator } from "./http_load.ts";
import type { OpenPlan } from "./memory_hit.ts";
import { seededDatabase } from "./seeded_database.ts";
import { USERS_COUNT } from "./users.ts";

const PROCESSES = [1, 2, 4];
const TITLES = { rate: "HTTP hit, by processes", time: "HTTP hit, processor time, by processes" };
const PASSES = 3;

/**
 * The service over HTTP with several processes behind one port: requests a second, or the processor time of
 * all its processes per request. Every user in turn.
 */
export async function processesPlan(
  redisUrl: string,
  { what, seconds }: { readonly what: "rate" | "time"; readonly seconds: number },
): Promise<OpenPlan> {
  await using starting = new AsyncDisposableStack();
  const database = starting.use(await seededDatabase(USERS_COUNT));
  const generator = await loadGenerator(seconds);
  const contenders = [];
  for (const count of PROCESSES) {
    const env = {
      REDIS_URL: redisUrl,
      DATABASE_URL: database.url,
      LOG_LEVEL: "warning",
      WORKERS: String(count),
      CACHE_PREFIX: `${what}${count}`,
      HOST: "127.0.0.1",
      PORT: String(freePort()),
    };
    const service = starting.use(await startByCommand(env));
    const url = `http://127.0.0.1:${env.PORT}`;
    for (let pass = 0; pass < PASSES; pass++) await generator.run(url, "all users");
    contenders.push({
      name: count === 1 ? "1 process" : `${count} processes`,
      measure: async () => {
        const before = processorMsOf(processesOf(service));
        const { requests, seconds } = await generator.run(url, "all users");
        const tookMs = processorMsOf(processesOf(service)) - before;
        return what === "rate" ? requests / seconds : 1_000 * tookMs / requests;
      },
    });
  }
  const running = starting.move();
  return {
    plan: { title: TITLES[what], unit: what === "rate" ? "req/s" : "µs", contenders, targets: [] },
    close: () => running.disposeAsync(),
  };
}

/** The command's process, and those that it has started. */
function processesOf({ pid }: ServerProcess): number[] {
  const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`);
  return [pid, ...children.split(" ").filter(Boolean).map(Number)];
}
