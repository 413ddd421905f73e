/**
 * Spans for look-ups, loads and queries, beside those of requests that Deno makes by itself. Imported
 * only where `OTEL_DENO` is on: without it, nothing of this stands in anybody's way.
 *
 * @module
 */
import { type Attributes, type Span, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import {
  type BatchLoader,
  Cache,
  type EntryOptions,
  type Jsonify,
  type Loader,
  type Lookup,
} from "../cache/mod.ts";
import type { Database, Queryable, SqlValue } from "../db/database.ts";
import { messageOf } from "./message_of.ts";

const tracer = trace.getTracer("lookaside");

/** A cache whose look-ups and loads are spans. A load belongs to the look-up that began it. */
export class TracedCache extends Cache {
  override getOrLoad<T, V = Jsonify<T>>(
    key: string,
    load: Loader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>> {
    const traced: Loader<T> = (...args) =>
      spanned("load", { attributes: { "lookaside.key": key } }, () => load(...args));
    return spanned("look-up", { attributes: { "lookaside.key": key } }, async (span) => {
      const lookup = await super.getOrLoad(key, traced, options);
      span.setAttributes({ "lookaside.source": lookup.source, "lookaside.stale": lookup.stale });
      return lookup;
    });
  }

  override getOrLoadMany<T, V = Jsonify<T>>(
    keys: readonly string[],
    loadMissing: BatchLoader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>[]> {
    const traced: BatchLoader<T> = (missing, ...rest) =>
      spanned(
        "load",
        { attributes: { "lookaside.keys": missing.length } },
        () => loadMissing(missing, ...rest),
      );
    return spanned(
      "look-up",
      { attributes: { "lookaside.keys": keys.length } },
      () => super.getOrLoadMany(keys, traced, options),
    );
  }
}

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

/** Runs `run` within a span that ends when it does, and tells why if it fails. */
async function spanned<T>(
  name: string,
  options: { readonly kind?: SpanKind; readonly attributes: Attributes },
  run: (span: Span) => T | Promise<T>,
): Promise<T> {
  return await tracer.startActiveSpan(name, options, async (span) => {
    try {
      return await run(span);
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) });
      throw error;
    } finally {
      span.end();
    }
  });
}
