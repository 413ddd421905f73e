/**
 * The rows as one picture: a small bar chart for each.
 *
 * @module
 */
import * as echarts from "echarts";
import type { Row } from "./row.ts";

const WIDTH = 900;
const BAR_HEIGHT = 24;
const PANEL_GAP = 64;
const NAMES_WIDTH = 230;

/** Draws the rows as an SVG document. Bars are labelled with their medians. */
export function chartOf(
  rows: readonly Row[],
  { title, caption }: { readonly title: string; readonly caption: string },
): string {
  let top = 40;
  const panels = rows.map((row) => {
    top += PANEL_GAP;
    const height = row.scores.length * BAR_HEIGHT;
    const panel = { row, top, height };
    top += height;
    return panel;
  });
  const chart = echarts.init(null, null, {
    renderer: "svg",
    ssr: true,
    width: WIDTH,
    height: top + 40,
  });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    title: [
      { text: title, subtext: caption, left: 20, top: 8 },
      ...panels.map(({ row, top }) => ({
        text: `${row.title} (${row.unit}, ${row.unit === "µs" ? "less" : "more"} is better)`,
        textStyle: { fontSize: 13 },
        left: 20,
        top: top - 26,
      })),
    ],
    grid: panels.map(({ top, height }) => ({ left: NAMES_WIDTH, right: 110, top, height })),
    // From zero and linear: on a logarithmic scale the length of a bar would tell nothing.
    xAxis: panels.map((_, gridIndex) => ({ type: "value", gridIndex, min: 0, show: false })),
    yAxis: panels.map(({ row }, gridIndex) => ({
      type: "category",
      gridIndex,
      inverse: true,
      data: row.scores.map(({ name }) => name),
      axisTick: { show: false },
      axisLine: { show: false },
    })),
    series: panels.map(({ row }, at) => ({
      type: "bar",
      xAxisIndex: at,
      yAxisIndex: at,
      barWidth: BAR_HEIGHT - 8,
      data: row.scores.map(({ name, median }) => ({
        value: median,
        itemStyle: { color: name.startsWith("lookaside") ? "#1a7f64" : "#b8bec6" },
        label: { show: true, position: "right", formatter: figure(median) },
      })),
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

/** Three digits that matter, thousands apart. */
export function figure(value: number): string {
  return value >= 1_000
    ? Math.round(value).toLocaleString("en-GB")
    : String(Number(value.toPrecision(3)));
}
