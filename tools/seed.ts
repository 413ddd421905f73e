/**
 * `deno task seed` on a developer's machine: seeds the database that a running `deno task dev` chose, else
 * that of `.env`. What the environment names goes before both.
 *
 * @module
 */
import { runSeed } from "../seed.ts";
import { runningEnvironment } from "./environment.ts";

if (import.meta.main) Deno.exit(await runSeed(await runningEnvironment()));
