import type { ChangesDatabase } from "../changes/mod.ts";
import type { Database, Queryable } from "./database.ts";

/** The service's pool, as the changes module uses it. */
export function changesDatabase(database: Database): ChangesDatabase {
  const over = (on: Queryable): ChangesDatabase["query"] => (sql, parameters) =>
    on.query(sql, parameters);
  return {
    query: over(database),
    transaction: (run) => database.transaction((transaction) => run(over(transaction))),
    listen: (channel, onNotify) => database.listen(channel, onNotify),
  };
}
