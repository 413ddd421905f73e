/**
 * What the tests use of `pg`. Its own types come with those of Node, which contradict Deno's.
 *
 * @module
 */
import type { PgPool } from "../../changes/adapters/pg.ts";

/** The default export of `pg`. */
declare const pg: {
  readonly Client: new (options: { readonly connectionString: string }) => {
    connect(): Promise<void>;
    end(): Promise<void>;
  };
  readonly Pool: new (
    options: {
      readonly connectionString: string;
      readonly max?: number;
      readonly query_timeout?: number;
    },
  ) =>
    & PgPool
    & { end(): Promise<void>; on(event: "error", listener: (error: Error) => void): unknown };
};
export default pg;
