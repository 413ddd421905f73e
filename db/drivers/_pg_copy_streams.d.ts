/**
 * The parts of `pg-copy-streams` that the driver uses.
 *
 * @module
 */
import type { Writable } from "node:stream";
import type { Submittable } from "./_pg.d.ts";

/** Takes rows as text, and ends once Postgres has them. */
export declare function from(statement: string): Writable & Submittable;
