/**
 * The table: every fault, and how it is written down.
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

/** Every row that there is. */
export const FAULTS: readonly Fault[] = [
  ...REDIS_FAULTS,
  ...TOPOLOGY_FAULTS,
  ...POSTGRES_FAULTS,
  ...CLIENT_FAULTS,
  ...CLOCK_FAULTS,
];

/** How to make a table. */
export interface TableOptions {
  readonly faults: readonly Fault[];
  readonly durations: Durations;
  /** What a service without a cache does. Without it, what depends on it is not judged. */
  readonly baseline?: Baseline;
  /** Told of each row as it is done. */
  readonly onRow?: (row: Row) => void;
}

/** Makes the rows, each in a world of its own. */
export async function runTable({ faults, onRow, ...options }: TableOptions): Promise<Row[]> {
  const rows: Row[] = [];
  for (const fault of faults) {
    const row = await runAlone(fault, options);
    onRow?.(row);
    rows.push(row);
  }
  return rows;
}

/** A row that cannot be measured must not cost the others. */
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
  ...["what happens", "requests", "5xx", "no answer", "p50 ms", "p99 ms", "slowest ms", "pause ms"],
  ...["queries/s, before", "during", "at once", "stale", "lost", "recovered ms", "targets"],
];

/** The rows as a table in Markdown, as a terminal shows it well, too. */
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
  return [pad(head), rule, ...body.map(pad)].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** What a row is said to be in one line. */
export function verdictOf({ impossible, broken, slow, remark }: Row): string {
  if (impossible !== undefined) return `not possible here: ${impossible}`;
  const missed = [...broken, ...slow];
  const verdict = missed.length === 0 ? "met" : `MISSED: ${missed.join("; ")}`;
  return remark === undefined ? verdict : `${verdict} (${remark})`;
}

function cellsOf(row: Row): string[] {
  if (row.impossible !== undefined) {
    return [row.name, ...HEADINGS.slice(2).map(() => ""), verdictOf(row)];
  }
  const { figures } = row;
  const errors = figures.refused === 0 || figures.refused < figures.serverErrors
    ? String(figures.serverErrors)
    : `${figures.serverErrors} (503)`;
  return [
    ...[row.name, String(figures.requests), errors, String(figures.unanswered)],
    ...[figures.p50Ms.toFixed(1), figures.p99Ms.toFixed(1), figures.slowestMs.toFixed(0)],
    ...[figures.pauseMs.toFixed(0), row.steadyQueriesPerSecond.toFixed(0)],
    ...[row.queriesPerSecond.toFixed(0), String(row.queriesRunningMax)],
    ...[String(row.staleReads), String(row.lostWrites), String(row.recoveredMs ?? "never")],
    verdictOf(row),
  ];
}

function baselineCells(
  { requests, p50Ms, p99Ms, slowestMs, queriesPerSecond }: Baseline,
): string[] {
  return [
    ...["(nothing, with `CACHE=off`)", String(requests), "0", "0"],
    ...[p50Ms.toFixed(1), p99Ms.toFixed(1), slowestMs.toFixed(0), ""],
    ...[queriesPerSecond.toFixed(0), "", "", "", "", "", ""],
  ];
}
