import type { SqlParameter } from "../../changes/database.ts";

/** A node of a plan, as Postgres explains it. */
interface PlanNode {
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
  readonly Plans?: readonly PlanNode[];
}

/** The answer of `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)`. */
type Explained = Record<"QUERY PLAN", readonly [{ readonly Plan: PlanNode }]>;

/**
 * How many rows Postgres goes through for a statement, in all steps of its plan; and pages, since rows that an index
 * scan passes over are not told.
 */
export async function rowsGoneThrough(
  query: (text: string, values: SqlParameter[]) => Promise<readonly Explained[]>,
  text: string,
  values: readonly SqlParameter[],
): Promise<number> {
  const [explained] = await query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`, [...values]);
  const sum = (node: PlanNode): number =>
    node["Actual Loops"] * (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) +
        (node["Rows Removed by Join Filter"] ?? 0)) +
    (node.Plans ?? []).reduce((total, each) => total + sum(each), 0);
  if (explained === undefined) return NaN;
  const { Plan: root } = explained["QUERY PLAN"][0];
  return sum(root) + root["Shared Hit Blocks"] + root["Shared Read Blocks"];
}
