/**
 * The tables that are served: one declaration each.
 *
 * @module
 */
import type { Resource } from "./resource.ts";
import { users } from "./users.ts";

/** All of them. */
export const resources: readonly Resource[] = [users];
