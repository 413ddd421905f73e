/**
 * Spans for queries, besides those for look-ups and loads, and Deno's own for requests. Imported only if
 * `OTEL_DENO` is on.
 *
 * @module
 */
import { SpanKind } from "@opentelemetry/api";
import { spanned } from "../cache/opentelemetry/mod.ts";
import type { Database, Queryable, SqlValue } from "../db/database.ts";

export { TracedCache } from "../cache/opentelemetry/mod.ts";

/** A database that records statements and transactions as spans. Spans contain no values, since these are bound. */
export function traceDatabase(database: Database): Database {
  return {
    ...traceQueries(database),
    transaction: (run) =>
      spanned(
        "transaction",
        CLIENT,
        () => database.transaction((transaction) => run(traceQueries(transaction))),
      ),
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
