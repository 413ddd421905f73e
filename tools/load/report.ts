/**
 * A load as a page with charts, in one file that requests nothing from other hosts.
 *
 * @module
 */
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import base from "../../cache/dashboard/web/base.css" with { type: "text" };
import charts from "./report_charts.js" with { type: "text" };
import style from "./report_style.css" with { type: "text" };
import type { Timeline } from "./timeline.ts";

/** The content of a report. */
export interface LoadReport {
  /** Time, place and method of the measurement. */
  readonly conditions: string;
  /** The table: the same work with and without the cache. */
  readonly rows: readonly {
    readonly name: string;
    readonly unit: string;
    readonly withCache: number;
    readonly withoutCache: number;
  }[];
  /** The steady load on the service as it is. */
  readonly withCache: Timeline;
  /** The same on the database alone. */
  readonly withoutCache: Timeline;
  /** The fault in the middle of it. */
  readonly fault?: {
    readonly begins: string;
    readonly ends: string;
    readonly fromS: number;
    readonly toS: number;
  };
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

/** Makes the page. */
export function loadReport(report: LoadReport): string {
  const { fault } = report;
  const story = fault === undefined
    ? "A steady load, first through the cache, then on the database alone."
    : `A steady load, first through the cache, then on the database alone. ${fault.begins} at ` +
      `${fault.fromS} s and ${fault.ends} at ${fault.toS} s.`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>What the cache is worth</title>
<style>
${uplotStyle}
${base}
${style}
</style>
</head>
<body>
<header>
<h1>What the cache is worth</h1>
<p>${escaped(story)}</p>
<p class="soft">${escaped(report.conditions)}</p>
</header>
<main>
${tiles(report)}
<section>
<h2>The same work, with and without</h2>
${table(report.rows)}
</section>
<div id="charts"></div>
</main>
<noscript>The charts need JavaScript.</noscript>
<script type="application/json" id="data">${json(report)}</script>
<script>
${uplotScript}
</script>
<script>
${charts}
</script>
</body>
</html>
`;
}

/** The most important figures. */
function tiles({ withCache, withoutCache }: LoadReport): string {
  const figures = [
    ["Median time to answer", medianOf(withCache), medianOf(withoutCache), "ms"],
    ["Slowest second, p99", worstOf(withCache), worstOf(withoutCache), "ms"],
    ["Loads from the database", loadsOf(withCache), loadsOf(withoutCache), "/s"],
    ["Requests that failed", failuresOf(withCache), failuresOf(withoutCache), "%"],
  ] as const;
  const tile = ([name, here, there, unit]: typeof figures[number]) =>
    `<div class="tile"><h2>${name}</h2>` +
    `<p class="figure${isWorse(here, there) ? " worse" : ""}">${text(here, unit)}</p>` +
    `<p class="soft">${text(there, unit)} without the cache</p></div>`;
  return `<section class="tiles">${figures.map(tile).join("")}</section>`;
}

/** For every figure in a report, less is better. */
function isWorse(withCache = 0, withoutCache = Infinity): boolean {
  return withCache > withoutCache;
}

function medianOf({ samples }: Timeline): number | undefined {
  const medians = samples.flatMap(({ p50Ms }) => p50Ms ?? []).sort((a, b) => a - b);
  return medians[Math.floor(medians.length / 2)];
}

function worstOf({ samples }: Timeline): number | undefined {
  const slowest = samples.flatMap(({ p99Ms }) => p99Ms ?? []);
  return slowest.length === 0 ? undefined : Math.max(...slowest);
}

function loadsOf({ counted }: Timeline): number | undefined {
  if (counted.length === 0) return undefined;
  return counted.reduce((sum, { loads }) => sum + loads, 0) / counted.length;
}

function failuresOf({ samples }: Timeline): number | undefined {
  const failed = samples.reduce((sum, each) => sum + each.failed, 0);
  const all = failed + samples.reduce((sum, each) => sum + each.answered, 0);
  return all === 0 ? undefined : 100 * failed / all;
}

function table(rows: LoadReport["rows"]): string {
  const lines = rows.map(({ name, unit, withCache, withoutCache }) => {
    const worse = isWorse(withCache, withoutCache) ? " worse" : "";
    const most = Math.max(withCache, withoutCache) || 1;
    const bar = (value: number, kind: string) =>
      `<td><div class="bar ${kind}" style="--share: ${(value / most).toFixed(3)}">` +
      `<i></i><span>${text(value, unit)}</span></div></td>`;
    const ratio = withCache === 0 ? "none left" : `${rounded(withoutCache / withCache)}×`;
    const verdict = worse === "" ? ratio : `${ratio}, worse`;
    return `<tr><th scope="row">${escaped(name)}</th>${bar(withCache, `with${worse}`)}` +
      `${bar(withoutCache, "without")}<td class="ratio${worse}">${verdict}</td></tr>`;
  });
  return `<div class="wide"><table><thead><tr><td></td><th scope="col">with the cache</th>` +
    `<th scope="col">without</th><th scope="col">ratio</th></tr></thead>` +
    `<tbody>${lines.join("")}</tbody></table></div>`;
}

function text(value: number | undefined, unit: string): string {
  if (value === undefined) return "nothing measured";
  return unit === "%" || unit === "/s"
    ? `${rounded(value)} ${unit === "/s" ? "a second" : "%"}`
    : `${rounded(value)} ${escaped(unit)}`;
}

function rounded(value: number): string {
  if (value === 0) return "0";
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
}

/** JSON that cannot end the element it is in. */
function json(report: LoadReport): string {
  return JSON.stringify(report).replaceAll("<", "\\u003c");
}

function escaped(value: string): string {
  return value.replace(/[&<>]/g, (found) => ESCAPES[found] ?? found);
}
