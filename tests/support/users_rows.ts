import type { Queryable } from "../../db/database.ts";
import { TableRows } from "../../db/table_rows.ts";
import { columnsOf } from "../../routes/resource.ts";
import { users } from "../../routes/users.ts";

/** The rows of users, as the service declares them. */
export function usersRows(database: Queryable): TableRows {
  return new TableRows(database, columnsOf(users));
}
