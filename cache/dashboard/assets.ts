/**
 * The files of the page, embedded as text, because a program may lack the right to read files.
 *
 * @module
 */
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import base from "./web/base.css" with { type: "text" };
import charts from "./web/charts.js" with { type: "text" };
import figures from "./web/figures.css" with { type: "text" };
import history from "./web/history.js" with { type: "text" };
import icon from "./web/icon.svg" with { type: "text" };
import page from "./web/index.html" with { type: "text" };
import inspector from "./web/inspector.js" with { type: "text" };
import lists from "./web/lists.js" with { type: "text" };
import live from "./web/live.js" with { type: "text" };
import main from "./web/main.js" with { type: "text" };
import service from "./web/service.js" with { type: "text" };
import style from "./web/style.css" with { type: "text" };
import text from "./web/text.js" with { type: "text" };
import tiles from "./web/tiles.js" with { type: "text" };

/** A file of the page. */
export interface Asset {
  /** Its text. */
  readonly text: string;
  /** Its media type. */
  readonly type: string;
}

const SCRIPT = "text/javascript; charset=utf-8";
const STYLE = "text/css; charset=utf-8";

/** The files by name. */
export const ASSETS: ReadonlyMap<string, Asset> = new Map([
  ["index.html", { text: page, type: "text/html; charset=utf-8" }],
  ["icon.svg", { text: icon, type: "image/svg+xml" }],
  ["style.css", { text: base + style + figures, type: STYLE }],
  ["uplot.css", { text: uplotStyle, type: STYLE }],
  ["uplot.js", { text: uplotScript, type: SCRIPT }],
  ...Object.entries({
    charts,
    history,
    inspector,
    lists,
    live,
    main,
    service,
    text,
    tiles,
  }).map(([name, script]) => [`${name}.js`, { text: script, type: SCRIPT }] as const),
]);
