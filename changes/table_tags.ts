import type { Cache } from "@lookaside/cache";
import { anyTag, labelOf, partsOf, type TableName, tableTag } from "./names.ts";

/**
 * The tags of an entry that depends on any row of a table, once the table is known to be watched. For adapters
 * of ORMs and query builders, which know only the tables of a query.
 *
 * @throws {TypeError} It is not watched and this role may not watch it, or it is not a table.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { tableTags } from "@lookaside/changes";
 *
 * await using cache = new Cache(); // without `changes` nobody could tell
 * await assert.rejects(tableTags(cache, "orders"), TypeError);
 * ```
 */
export async function tableTags(
  cache: Pick<Cache, "changes">,
  name: TableName,
): Promise<string[]> {
  const [schema, table] = partsOf(name);
  const label = labelOf(name);
  await cache.changes.watched({ schema, name: table, key: [], columns: [] });
  return [anyTag(label), tableTag(label)];
}
