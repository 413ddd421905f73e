/**
 * The part of `pg` that the races use. The original types need those of Node, which contradict Deno's.
 *
 * @module
 */
import type { PgPool } from "@lookaside/changes";

/** The default export of `pg`. */
declare const pg: {
  readonly Pool: new (options: { readonly connectionString: string; readonly max?: number }) =>
    & PgPool
    & { end(): Promise<void>; on(event: "error", listener: (error: Error) => void): unknown };
};
export default pg;
