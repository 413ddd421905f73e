/**
 * Finds the tables that a statement reads in its text. Drizzle reports those of `from()` and of joins, but not
 * those of subqueries in conditions or of raw SQL.
 *
 * @module
 */

/** A table: its schema, if the statement names it, and its name. */
export type ReadTable = readonly [schema: string | undefined, name: string];

const QUOTED = /"(?:[^"]|"")*"|'(?:[^']|'')*'/g;
/** Postgres takes any character beyond ASCII for a letter. */
const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[a-z_\u0080-\uffff][\w$\u0080-\uffff]*)`;
const TOKEN = new RegExp(String.raw`${IDENTIFIER}|\d[\w$.]*|[^\s\w$]|[\w$]+`, "gi");
/** Comments, and quotes that only raw SQL has: finding the end of such a text is not worth the effort. */
const UNCLEAR = /\be'|u&['"]|\$(?:[a-z_]\w*)?\$|--|\/\*/i;
/** The functions with a FROM among their arguments. */
const TAKES_FROM = /^(extract|substring|trim|overlay)$/;
/** The words after which the tables of a FROM have ended. */
const ENDS_FROM =
  /^(where|group|having|window|order|limit|offset|fetch|for|union|intersect|except|select)$/;
const NAMED_QUERY = new RegExp(
  String
    .raw`(?:\bwith(?:\s+recursive)?|,)\s*(${IDENTIFIER})\s*(?:\([^()]*\)\s*)?as\s*(?:(?:not\s+)?materialized\s*)?\(`,
  "gi",
);

/** The state within one pair of parentheses. */
interface Level {
  /** True between FROM and the next clause, where a comma or JOIN precedes a table. */
  inFrom: boolean;
  /** True if a table or a subquery comes next. */
  isNext: boolean;
  /** The word before the parenthesis. */
  readonly call: string;
}

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
  const tokens = [...text.matchAll(TOKEN)];
  const word = (i: number) => tokens[i]?.[0].toLowerCase() ?? "";
  const levels: Level[] = [];
  let level: Level = { inFrom: false, isNext: false, call: "" };
  for (let i = 0; i < tokens.length; i++) {
    if (word(i) === "(" || word(i) === "[") {
      levels.push(level);
      level = { inFrom: level.isNext, isNext: level.isNext, call: word(i - 1) };
    } else if (word(i) === ")" || word(i) === "]") {
      level = levels.pop() ?? level;
      level.isNext = false;
    } else if (!level.isNext) {
      if (word(i) === "table") return undefined; // the command TABLE
      follow(level, word(i), word(i - 1));
    } else if (/^(select|with)$/.test(word(i)) || (word(i) === "values" && word(i + 1) === "(")) {
      level.inFrom = level.isNext = false;
    } else if (!/^(only|lateral)$/.test(word(i))) {
      const [first = "", ...others] = identifiers(tokens.slice(i, i + 5).map(([token]) => token));
      i += 2 * others.length;
      if (first === "" || others.length > 1 || word(i + 1) === "(") return undefined;
      const table: ReadTable = others[0] === undefined ? [undefined, first] : [first, others[0]];
      const at = tokens[i]?.index ?? 0;
      const isNamed = others.length === 0 &&
        named.some(({ name, from, to }) => name === first && at >= from && at < to);
      if (!isNamed) tables.set(JSON.stringify(table), table);
      level.isNext = false;
    }
  }
  return tables.size === 0 ? undefined : [...tables.values()];
}

/** Notes a word that may begin or end a FROM. */
function follow(level: Level, word: string, before: string): void {
  if (before === "." || before === "as") return; // a column may have any name
  if (word === "from" && before !== "distinct" && !TAKES_FROM.test(level.call)) {
    level.inFrom = level.isNext = true;
  } else if (word === "," || word === "join") {
    level.isNext = level.inFrom;
  } else if (ENDS_FROM.test(word)) {
    level.inFrom = false;
  }
}

/** The identifiers at the beginning of some tokens, as far as points connect them. */
function identifiers(tokens: readonly string[]): string[] {
  const [token = "", point, ...others] = tokens;
  if (!new RegExp(`^${IDENTIFIER}$`, "i").test(token)) return [];
  return [plain(token), ...point === "." ? identifiers(others) : []];
}

/** The queries of WITH, and the part of the text in which each name means the query. Before, it means a table. */
function namedQueries(
  text: string,
): { readonly name: string; readonly from: number; readonly to: number }[] {
  const bare = text.replace(QUOTED, (quoted) => "_".repeat(quoted.length));
  const endOfLevel = (start: number) => {
    let end = start;
    for (let depth = 1; depth > 0 && end < bare.length; end++) {
      if (bare[end] === "(") depth++;
      if (bare[end] === ")") depth--;
    }
    return end;
  };
  return [...text.matchAll(NAMED_QUERY)].map(({ 0: head, 1: name = "", index }) => {
    const from = endOfLevel(index + head.length);
    return { name: plain(name), from, to: endOfLevel(from) };
  });
}

/** An identifier as Postgres stores it. */
function plain(identifier: string): string {
  return identifier.startsWith('"')
    ? identifier.slice(1, -1).replaceAll('""', '"')
    : identifier.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
