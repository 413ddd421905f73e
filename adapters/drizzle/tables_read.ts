/**
 * Finds the tables that a statement reads in its text. Drizzle reports those of `from()` and of joins, but not
 * those of subqueries in conditions or of raw SQL.
 *
 * @module
 */

/** A table: its schema, if the statement names it, and its name. */
export type ReadTable = readonly [schema: string | undefined, name: string];

const QUOTED = /"(?:[^"]|"")*"|'(?:[^']|'')*'/g;
const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[a-z_][\w$]*)`;
/** Comments, and quotes that only raw SQL has: finding the end of such a text is not worth the effort. */
const UNCLEAR = /\be'|u&['"]|\$(?:[a-z_]\w*)?\$|--|\/\*/i;
/** The word FROM where it does not name a table. */
const OTHER_FROM = /\bdistinct\s+from\b|\b(?:extract|substring|trim|overlay)\s*\([^()]*\bfrom\b/gi;
const READS = new RegExp(
  String
    .raw`\b(?:from|join)\s+(?:only\s+)?(?:lateral\s*)?(?:(\()|(${IDENTIFIER})(?:\s*\.\s*(${IDENTIFIER}))?(\s*\(|(?:\s+(?:as\s+)?${IDENTIFIER})?\s*,)?)?`,
  "gi",
);
const NAMED_QUERY = new RegExp(
  String
    .raw`(?:\bwith(?:\s+recursive)?|,)\s*(${IDENTIFIER})\s*(?:\([^()]*\)\s*)?as\s*(?:(?:not\s+)?materialized\s*)?\(`,
  "gi",
);

/** FOR UPDATE and its weaker forms. */
const LOCKS = /\bfor\s+(?:no\s+key\s+update|update|key\s+share|share)\b/i;

/** True if a SELECT locks the rows that it reads: then it has to reach Postgres, and to see the newest rows. */
export function locksRows(sql: string): boolean {
  return LOCKS.test(sql.replace(QUOTED, "''"));
}

/** The tables that a SELECT reads. `undefined`: its text does not say which. */
export function tablesRead(sql: string): ReadTable[] | undefined {
  const text = sql.replace(QUOTED, (quoted) => quoted.startsWith('"') ? quoted : "''");
  if (UNCLEAR.test(text.replace(QUOTED, "''"))) return undefined;
  const named = namedQueries(text);
  const tables = new Map<string, ReadTable>();
  const reads = text.replace(OTHER_FROM, (found) => " ".repeat(found.length)).matchAll(READS);
  for (const { index, 1: subquery, 2: first, 3: second, 4: unclear } of reads) {
    if (subquery !== undefined) continue; // its tables are found separately
    if (first === undefined || unclear !== undefined) return undefined;
    const [schema, name] = second === undefined ? [undefined, first] : [first, second];
    const isNamed = schema === undefined &&
      named.some((query) => query.name === plain(name) && index >= query.end);
    const table: ReadTable = [schema && plain(schema), plain(name)];
    if (!isNamed) tables.set(JSON.stringify(table), table);
  }
  return tables.size === 0 ? undefined : [...tables.values()];
}

/** The queries of WITH and their ends: before its end, the name of a query means a table. */
function namedQueries(text: string): { readonly name: string; readonly end: number }[] {
  const bare = text.replace(QUOTED, (quoted) => "_".repeat(quoted.length));
  return [...text.matchAll(NAMED_QUERY)].map(({ 0: head, 1: name = "", index }) => {
    let end = index + head.length;
    for (let depth = 1; depth > 0 && end < bare.length; end++) {
      if (bare[end] === "(") depth++;
      if (bare[end] === ")") depth--;
    }
    return { name: plain(name), end };
  });
}

/** An identifier as Postgres stores it. */
function plain(identifier: string): string {
  return identifier.startsWith('"')
    ? identifier.slice(1, -1).replaceAll('""', '"')
    : identifier.toLowerCase();
}
