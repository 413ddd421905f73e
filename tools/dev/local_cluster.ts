/**
 * A Redis Cluster of three primaries and three replicas from this machine's `redis-server`, as a program of its
 * own. It keeps no data.
 *
 * `deno task dev --cluster` starts it. It prints one line, the URL of the cluster, once it is ready. It ends on
 * SIGTERM, on SIGINT, and when its standard input closes.
 *
 * @module
 */
import { startRedisCluster } from "../servers/redis_cluster.ts";
import { untilToldToStop } from "../until_told_to_stop.ts";

async function main(): Promise<void> {
  const stopped = untilToldToStop();
  // If one server is down, only its slots are missing, not the whole cluster.
  await using cluster = await startRedisCluster({
    args: ["--cluster-require-full-coverage", "no"],
  });
  await Deno.stdout.write(new TextEncoder().encode(`${cluster.url}\n`));
  await stopped;
}

if (import.meta.main) {
  await main();
  // Standard input may still be open, and reading it would keep the process alive.
  Deno.exit(0);
}
