/**
 * The tables that are served, with one declaration each.
 *
 * @module
 */
import type { Resource } from "./resource.ts";
import { users } from "./users.ts";

/** All tables. */
export const resources: readonly Resource[] = [users];
