/**
 * The table of all faults, and its text form.
 *
 * @module
 */
import { CLIENT_FAULTS } from "./client_faults.ts";
import { CLOCK_FAULTS } from "./clock_faults.ts";
import type { Fault } from "./fault.ts";
import { POSTGRES_FAULTS } from "./postgres_faults.ts";
import { REDIS_FAULTS } from "./redis_faults.ts";
import { type Baseline, type Durations, type Row, runRow, unmeasuredRow } from "./row.ts";
import { TOPOLOGY_FAULTS } from "./topology_faults.ts";

/** All rows. */
export const FAULTS: readonly Fault[] = [
  ...REDIS_FAULTS,
  ...TOPOLOGY_FAULTS,
  ...POSTGRES_FAULTS,
  ...CLIENT_FAULTS,
  ...CLOCK_FAULTS,
];

/** Options for making a table. */
export interface TableOptions {
  readonly faults: readonly Fault[];
  readonly durations: Durations;
  /** Figures of a service without a cache. Without them, targets that depend on them are not judged. */
  readonly baseline?: Baseline;
  /** Called with each finished row. */
  readonly onRow?: (row: Row) => void;
}

/** Measures the rows, each in its own world. */
export async function runTable({ faults, onRow, ...options }: TableOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const fault of faults) {
    const row = await runAlone(fault, options);
    onRow?.(row);
    rows.push(row);
  }
  return rows;
}

/** Keeps a row that cannot be measured from ending the run. */
async function runAlone(
  fault: Fault,
  options: Pick<TableOptions, "durations" | "baseline">,
): Promise<Row> {
  try {
    await using world = await fault.startWorld();
    return await runRow(fault, world, options);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return unmeasuredRow(fault.name, { broken: [`not measured: ${text}`] });
  }
}

const HEADINGS = [
  ...["what happens", "requests", "failed", "p50 ms", "p99 ms", "slowest ms", "pause ms"],
  ...["statements/s", "at once", "stale", "lost", "recovered ms"],
];

/** The rows as a Markdown table, which also a terminal shows well, and the missed targets below. */
export function renderTable(rows: readonly Row[], baseline?: Baseline): string {
  const lines = [HEADINGS, ...rows.map(cellsOf)];
  if (baseline !== undefined) lines.push(baselineCells(baseline));
  const widths = HEADINGS.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  const pad = (line: readonly string[]) =>
    line.map((cell, at) =>
      at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)
    );
  const rule = widths.map((width, at) =>
    at === 0 ? "-".repeat(width) : "-".repeat(width - 1) + ":"
  );
  const [head = HEADINGS, ...body] = lines;
  const table = [pad(head), rule, ...body.map(pad)].map((cells) => `| ${cells.join(" | ")} |`);
  const notes = rows.filter((row) => verdictOf(row) !== MET)
    .map((row) => `- ${row.name}: ${verdictOf(row)}`);
  return [...table, ...(notes.length === 0 ? [] : ["", ...notes])].join("\n");
}

const MET = "met";

/** The result of a row in one line. */
export function verdictOf({ impossible, broken, slow, remark }: Row): string {
  if (impossible !== undefined) return `not possible here: ${impossible}`;
  const missed = [...broken, ...slow];
  const verdict = missed.length === 0 ? MET : `MISSED: ${missed.join("; ")}`;
  return remark === undefined ? verdict : `${verdict}; ${remark}`;
}

function cellsOf(row: Row): string[] {
  const { figures, steady } = row;
  if (row.impossible !== undefined) return [row.name, ...HEADINGS.slice(1).map(() => "")];
  const recovered = row.recoveredMs === 0 ? "< 100" : String(row.recoveredMs ?? "never");
  return [
    ...[row.name, String(figures.requests), failuresOf(row), figures.p50Ms.toFixed(1)],
    `${steady.p99Ms.toFixed(0)} → ${figures.p99Ms.toFixed(0)}`,
    ...[figures.slowestMs.toFixed(0), figures.pauseMs.toFixed(0)],
    `${row.steadyQueriesPerSecond.toFixed(0)} → ${row.queriesPerSecond.toFixed(0)}`,
    ...[String(row.queriesRunningMax), String(row.staleReads), String(row.lostWrites), recovered],
  ];
}

/** Failed requests, by kind of answer. */
function failuresOf({ figures: { serverErrors, refused, unanswered } }: Row): string {
  const kinds = [[refused, "503"], [serverErrors - refused, "5xx"], [unanswered, "no answer"]];
  const happened = kinds.filter(([count]) => count !== 0);
  return happened.length === 0 ? "0" : happened.map(([n, kind]) => `${n} × ${kind}`).join(", ");
}

function baselineCells(
  { requests, p50Ms, p99Ms, slowestMs, queriesPerSecond }: Baseline,
): string[] {
  return [
    ...["nothing, with `CACHE=off`", String(requests), "0", p50Ms.toFixed(1), p99Ms.toFixed(0)],
    ...[slowestMs.toFixed(0), "", queriesPerSecond.toFixed(0), "", "", "", ""],
  ];
}
