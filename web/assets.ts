/**
 * The dashboard's files, as text within the program: the service may read no files.
 *
 * @module
 */
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import base from "./base.css" with { type: "text" };
import charts from "./charts.js" with { type: "text" };
import docs from "./docs.css" with { type: "text" };
import entityTag from "./entity_tag.js" with { type: "text" };
import figures from "./figures.css" with { type: "text" };
import history from "./history.js" with { type: "text" };
import icon from "./icon.svg" with { type: "text" };
import page from "./index.html" with { type: "text" };
import inspector from "./inspector.js" with { type: "text" };
import lists from "./lists.js" with { type: "text" };
import live from "./live.js" with { type: "text" };
import main from "./main.js" with { type: "text" };
import service from "./service.js" with { type: "text" };
import style from "./style.css" with { type: "text" };
import text from "./text.js" with { type: "text" };
import tiles from "./tiles.js" with { type: "text" };
import tutorial from "./tutorial.js" with { type: "text" };

/** One file. */
export interface Asset {
  /** What stands in it. */
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
    entity_tag: entityTag,
    history,
    inspector,
    lists,
    live,
    main,
    service,
    text,
    tiles,
    tutorial,
  }).map(([name, script]) => [`${name}.js`, { text: script, type: SCRIPT }] as const),
]);

/** The style of the description's page, which holds it within. */
export const DOCS_STYLE: string = docs;
