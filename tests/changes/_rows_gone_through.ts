import type { SqlParameter } from "../../changes/database.ts";

/** A node of a plan, as Postgres explains it. */
interface PlanNode {
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** The answer of `EXPLAIN (ANALYZE, FORMAT JSON)`. */
type Explained = Record<"QUERY PLAN", readonly [{ readonly Plan: PlanNode }]>;

/** How many rows Postgres goes through for a statement, in all steps of its plan. */
export async function rowsGoneThrough(
  query: (text: string, values: SqlParameter[]) => Promise<readonly Explained[]>,
  text: string,
  values: readonly SqlParameter[],
): Promise<number> {
  const [explained] = await query(`EXPLAIN (ANALYZE, FORMAT JSON) ${text}`, [...values]);
  const sum = (node: PlanNode): number =>
    node["Actual Loops"] * (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) +
        (node["Rows Removed by Join Filter"] ?? 0)) +
    (node.Plans ?? []).reduce((total, each) => total + sum(each), 0);
  return explained === undefined ? NaN : sum(explained["QUERY PLAN"][0].Plan);
}
