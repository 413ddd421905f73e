// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test:fuzz --requests 100000 --seed 7`: sends random requests to a service on its own servers, and
 * checks their effects. Exit code 0: nothing was found.
 *
 * @module
 */
import { misused, readOptions } from "../../tools/command_line.ts";
import { startPostgres } from "../../tools/servers/postgres_server.ts";
import { fuzz } from "./fuzz.ts";
import { FuzzWorld } from "./world.ts";

const COMMAND = {
  name: "deno task test:fuzz",
  help: `deno task test:fuzz [--requests NUMBER] [--seed NUMBER]

Sends invalid requests to a service on servers that it starts, and checks what they leave behind. Exits
with 0 if nothing was found.

  --requests NUMBER  how many (100000)
  --seed NUMBER      repeat an earlier run`,
  options: { requests: { type: "string", default: "100000" }, seed: { type: "string" } },
} as const;

const values = readOptions(COMMAND);
const requests = Number(values.requests);
const seed = Number(values.seed ?? crypto.getRandomValues(new Int32Array(1))[0]);
if (!Number.isInteger(requests) || requests < 1 || !Number.isInteger(seed)) {
  misused(COMMAND, "Cannot fuzz: --requests and --seed must be whole numbers");
}

await using server = await startPostgres();
Deno.env.set("DATABASE_URL", server.url);
await using world = await FuzzWorld.start();
console.log(`seed ${seed}`);
const startedAtMs = performance.now();
try {
  console.log(await fuzz(world, { requests, seed }));
} catch (error) {
  console.error(error);
  Deno.exitCode = 1;
}
console.log(`${Math.round((performance.now() - startedAtMs) / 1_000)} s`);
