/**
 * Spans for queries, beside those of look-ups and loads, and those of requests that Deno makes by itself.
 * Imported only where `OTEL_DENO` is on: without it, nothing of this stands in anybody's way.
 *
 * @module
 */
import { SpanKind } from "@opentelemetry/api";
import { spanned } from "../cache/opentelemetry/mod.ts";
import type { Database, Queryable, SqlValue } from "../db/database.ts";

export { TracedCache } from "../cache/opentelemetry/mod.ts";

/** A database whose statements and transactions are spans. Values are bound, and are in none of them. */
export function traceDatabase(database: Database): Database {
  return {
    ...traceQueries(database),
    transaction: (run) =>
      spanned(
        "transaction",
        CLIENT,
        () => database.transaction((transaction) => run(traceQueries(transaction))),
      ),
    copyFrom: (table, columns, rows) =>
      spanned("copy", CLIENT, () => database.copyFrom(table, columns, rows)),
    listen: (channel, onNotify) => database.listen(channel, onNotify),
    pool: () => database.pool(),
    close: () => database.close(),
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

const CLIENT = { kind: SpanKind.CLIENT, attributes: { "db.system.name": "postgresql" } };

function traceQueries(target: Queryable): Queryable {
  return {
    query: <Row>(text: string, values?: readonly SqlValue[]) =>
      spanned("query", {
        ...CLIENT,
        attributes: { ...CLIENT.attributes, "db.query.text": text },
      }, () => target.query<Row>(text, values)),
  };
}
