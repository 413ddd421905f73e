// @ts-check
/// <reference lib="dom" />
/**
 * The charts, drawn by uPlot. Their figures are also shown as text.
 *
 * @module
 */
import { byId, durationText, element, percentText, rateText } from "./text.js";

/** @type {typeof import("uplot")} */
const Plot = /** @type {any} */ (globalThis).uPlot;
/** The shortest period of a chart. It grows to all kept samples. */
const WINDOW_S_MIN = 60;
const HEIGHT = 180;

/**
 * @typedef {object} Line
 * @property {string} label
 * @property {string} source The name of the colour.
 * @property {keyof import("./history.js").Columns} column
 * @property {boolean} [dashed]
 */

/**
 * @typedef {object} Chart
 * @property {string} id
 * @property {string} title
 * @property {readonly Line[]} lines
 * @property {(value: number) => string} text
 * @property {boolean} [stacked]
 * @property {"percent" | "logarithmic"} [scale]
 * @property {string} empty What there is to say before anything was measured.
 */

/** @type {readonly Chart[]} */
const CHARTS = [
  {
    id: "chart-requests",
    title: "Reads a second, by source",
    stacked: true,
    text: rateText,
    empty: "No reads since this page was opened.",
    lines: [
      { label: "memory", source: "memory", column: "memory" },
      { label: "Redis", source: "redis", column: "redis" },
      { label: "database", source: "database", column: "database" },
      { label: "joined another's", source: "shared", column: "shared" },
    ],
  },
  {
    id: "chart-hits",
    title: "Hit rate of each tier",
    text: percentText,
    scale: "percent",
    empty: "No tier was asked since this page was opened.",
    lines: [
      { label: "memory", source: "memory", column: "memoryShare" },
      { label: "Redis", source: "redis", column: "redisShare" },
    ],
  },
  {
    id: "chart-latency",
    title: "Time to answer a read",
    text: durationText,
    scale: "logarithmic",
    empty: "No answers since this page was opened.",
    lines: [
      { label: "memory p50", source: "memory", column: "memoryP50" },
      { label: "p99", source: "memory", column: "memoryP99", dashed: true },
      { label: "Redis p50", source: "redis", column: "redisP50" },
      { label: "p99", source: "redis", column: "redisP99", dashed: true },
      { label: "database p50", source: "database", column: "databaseP50" },
      { label: "p99", source: "database", column: "databaseP99", dashed: true },
    ],
  },
  {
    id: "chart-queries",
    title: "Database queries a second",
    text: rateText,
    empty: "Nothing was read since this page was opened.",
    lines: [
      { label: "saved by the cache", source: "memory", column: "saved" },
      { label: "made", source: "database", column: "database" },
    ],
  },
];

/**
 * Makes the charts. Answers a function that shows new columns.
 *
 * @returns {(columns: import("./history.js").Columns) => void}
 */
export function makeCharts() {
  const shows = CHARTS.map(makeChart);
  return (columns) => {
    for (const show of shows) show(columns);
  };
}

/** @param {Chart} chart */
function makeChart(chart) {
  const figure = byId(chart.id);
  const values = chart.lines.map(() => element("b", {}, "–"));
  const legend = element(
    "ul",
    { "class": "legend" },
    ...chart.lines.map((line, at) => legendItem(line, values[at] ?? "")),
  );
  const host = element("div", { "class": "plot", "aria-hidden": "true" });
  const empty = element("p", { "class": "empty plot-empty" }, chart.empty);
  host.append(empty);
  const title = element("h3", {}, chart.title);
  figure.replaceChildren(element("figcaption", {}, title, legend), host);
  /** @type {import("./history.js").Columns | undefined} */
  let shown;
  let plot = makePlot(chart, host);
  const draw = () => {
    if (shown === undefined) return;
    const { atS } = shown;
    const lastS = atS.at(-1) ?? Date.now() / 1000;
    const firstS = Math.min(atS[0] ?? lastS, lastS - WINDOW_S_MIN);
    plot.setData(/** @type {any} */ ([atS, ...drawnColumns(chart, shown)]), false);
    plot.batch(() => {
      plot.setScale("x", { min: firstS, max: lastS });
      plot.setScale("y", rangeOf(chart, shown));
    });
  };
  new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height: HEIGHT })).observe(host);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    plot.destroy();
    plot = makePlot(chart, host); // in the other colours
    draw();
  });
  return (/** @type {import("./history.js").Columns} */ columns) => {
    shown = columns;
    chart.lines.forEach(({ column }, at) => {
      const last = columns[column].at(-1) ?? null;
      values[at]?.replaceChildren(last === null ? "–" : chart.text(last));
    });
    // 0 % is a figure and is drawn as a line; a rate of 0 means that nothing happened.
    const isFigure = chart.scale === undefined ? Boolean : isMeasured;
    empty.hidden = chart.lines.some(({ column }) => columns[column].some(isFigure));
    draw();
  };
}

/** @param {number | null} value */
function isMeasured(value) {
  return value !== null;
}

/**
 * @param {Line} line
 * @param {Node | string} value
 */
function legendItem({ label, source, dashed = false }, value) {
  const swatch = element("span", { "class": "swatch", "data-source": source });
  if (dashed) swatch.dataset.dashed = "";
  return element("li", {}, swatch, element("span", { "class": "name" }, label), value);
}

/**
 * Columns in drawing order: stacked ones from the top of the stack, so that each area covers the next.
 *
 * @param {Chart} chart
 * @param {import("./history.js").Columns} columns
 */
function drawnColumns({ lines, stacked = false }, columns) {
  const plain = lines.map(({ column }) => columns[column]);
  if (!stacked) return plain;
  /** @type {(number | null)[]} */
  let below = columns.atS.map(() => 0);
  const sums = plain.map((column) =>
    below = column.map((/** @type {number | null} */ value, /** @type {number} */ at) =>
      value === null ? null : value + (below[at] ?? 0)
    )
  );
  return sums.reverse();
}

/**
 * @param {Chart} chart
 * @param {import("./history.js").Columns} columns
 */
function rangeOf(chart, columns) {
  if (chart.scale === "percent") return { min: 0, max: 100 };
  const values = drawnColumns(chart, columns).flat().filter((value) => value !== null);
  if (chart.scale === "logarithmic") {
    const positive = values.filter((value) => value > 0);
    const min = Math.min(0.01, ...positive);
    return {
      min: 10 ** Math.floor(Math.log10(min)),
      max: 10 ** Math.ceil(Math.log10(Math.max(1, ...positive))),
    };
  }
  return { min: 0, max: Math.max(5, ...values) * 1.1 };
}

/**
 * @param {Chart} chart
 * @param {HTMLElement} host
 */
function makePlot(chart, host) {
  const style = getComputedStyle(host);
  const ink = colourOf("--soft");
  const grid = { stroke: colourOf("--grid"), width: 1 };
  const ticks = { ...grid, size: 4 };
  const font = `12px ${style.fontFamily}`;
  const lines = chart.stacked ? [...chart.lines].reverse() : chart.lines;
  /** @type {import("uplot").Options} */
  const options = {
    width: host.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: true },
      y: chart.scale === "logarithmic" ? { auto: false, distr: 3 } : { auto: false },
    },
    axes: [
      { stroke: ink, grid, ticks, font, size: 28, space: 70, values: clockTimes },
      {
        stroke: ink,
        grid: chart.scale === "logarithmic" ? { ...grid, filter: wholeDecades } : grid,
        ticks: chart.scale === "logarithmic" ? { ...ticks, filter: wholeDecades } : ticks,
        font,
        size: 56,
        space: 28,
        values: (_, splits) => splits.map((value) => value === null ? "" : chart.text(value)),
      },
    ],
    series: [{}, ...lines.map((line) => seriesOf(line, chart.stacked ?? false))],
  };
  return new Plot(options, undefined, host);
}

/**
 * @param {unknown} _plot
 * @param {number[]} splits
 */
function wholeDecades(_plot, splits) {
  return splits.map((value) =>
    Number.isInteger(Number(Math.log10(value).toFixed(6))) ? value : null
  );
}

/**
 * @param {unknown} _plot
 * @param {number[]} splits
 */
function clockTimes(_plot, splits) {
  return splits.map((atS) =>
    new Date(atS * 1000).toLocaleTimeString("en", {
      hour: "2-digit",
      minute: "2-digit",
      ...((splits[1] ?? 0) - (splits[0] ?? 0) < 60 ? { second: "2-digit" } : {}),
      hourCycle: "h23",
    })
  );
}

/**
 * @param {Line} line
 * @param {boolean} filled
 */
function seriesOf({ source, dashed = false }, filled) {
  const colour = colourOf(`--${source}`);
  return {
    stroke: colour,
    width: filled ? 1 : 2,
    ...(filled ? { fill: colour } : {}),
    ...(dashed ? { dash: [2, 4] } : {}),
  };
}

/**
 * The present value of a colour in the style sheet, because a canvas does not resolve variables.
 *
 * @param {string} name
 */
function colourOf(name) {
  const probe = element("span", { "class": "sr-only" });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
