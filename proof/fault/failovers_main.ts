// deno-lint-ignore-file no-console -- a program that reports to its terminal
/**
 * Many failovers in a row, each with one Sentinel held back and the old primary restarted: no read from Redis
 * may be older than a write that had been applied. Usage: `deno run -A proof/fault/failovers_main.ts [count]`,
 * 200 by default.
 *
 * @module
 */
import { startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";
import { failOverBehind } from "../topologies/lagging.ts";

const count = Number(Deno.args[0] ?? 200);
const stale: string[] = [];
let hits = 0;
await using topology = await startRedisSentinel();
let disturbed = 0;
for (let round = 0; round < count; round++) {
  const outcome = await failOverBehind(topology, round + disturbed);
  if (outcome.disturbed) {
    disturbed++;
    round--;
    continue;
  }
  hits += outcome.hits;
  stale.push(...outcome.stale.map((each) => `failover ${round + 1}, instance ${each}`));
  if ((round + 1) % 10 === 0 || round + 1 === count || outcome.stale.length > 0) {
    console.log(
      `${
        round + 1
      } failovers, ${hits} answers from Redis, ${stale.length} old (${disturbed} disturbed)`,
    );
  }
}
for (const each of stale) console.error(each);
Deno.exitCode = stale.length > 0 || hits === 0 ? 1 : 0;
