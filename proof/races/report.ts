import type { RaceAdapter } from "./adapter.ts";
import { races } from "./races.ts";
import type { RaceResult } from "./run.ts";

/** The histories with their verdicts, as text. */
export function historiesOf(results: readonly RaceResult[]): string {
  return results.map(({ library, race, outcome, why, history }) => {
    const width = Math.max(...history.map(({ who }) => who.length));
    const lines = history.map(({ who, what }, i) =>
      `  ${String(i + 1).padStart(2)}. ${`${who}:`.padEnd(width + 2)}${what}`
    );
    const verdict = `  => ${outcome}${why === undefined ? "" : ` (${why})`}`;
    return [`${library}: ${race}`, ...lines, verdict].join("\n");
  }).join("\n\n");
}

/** Remarks on single results, one line each. */
export function remarksOn(results: readonly RaceResult[]): string {
  return results.flatMap(({ library, race, outcome, why }) =>
    why === undefined ? [] : [`${library}, ${race}: ${outcome}, ${why}`]
  ).join("\n");
}

/** The results as a Markdown table: a row for each race, a column for each library. */
export function tableOf(
  adapters: readonly RaceAdapter[],
  results: readonly RaceResult[],
): string {
  const names = adapters.map(({ name }) => name);
  const rows = races.map((race) => [
    race.name,
    ...names.map((library) => {
      const found = results.find((each) => each.library === library && each.race === race.name);
      return found === undefined ? "" : cellOf(found);
    }),
  ]);
  return markdown([["race", ...names], ...rows]);
}

/** A result; an unwanted one stands out. */
function cellOf({ kept, outcome }: RaceResult): string {
  return kept ? outcome : `**${outcome}**`;
}

function markdown(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, at) =>
    Math.max(...rows.map((row) => row[at]?.length ?? 0))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  const [head = [], ...body] = rows;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}
