/**
 * `deno task seed` on a developer's machine: seeds the database of a running `deno task dev`, or else that of
 * `.env`. The environment takes precedence over both.
 *
 * @module
 */
import { runSeed } from "../seed.ts";
import { runningEnvironment } from "./environment.ts";

if (import.meta.main) Deno.exit(await runSeed(await runningEnvironment()));
