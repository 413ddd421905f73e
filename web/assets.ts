/**
 * What the service adds to the dashboard, as text within the program: it may read no files.
 *
 * @module
 */
import type { DashboardPlugin } from "../cache/dashboard/mod.ts";
import docs from "./docs.css" with { type: "text" };
import entityTag from "./entity_tag.js" with { type: "text" };
import tryIt from "./try_it.html" with { type: "text" };
import tutorialStyle from "./tutorial.css" with { type: "text" };
import tutorial from "./tutorial.js" with { type: "text" };

const SCRIPT = "text/javascript; charset=utf-8";

/** The tutorial's steps, and where else there is something to see. */
export const PLUGIN: DashboardPlugin & { readonly head: string } = {
  files: new Map([
    ["entity_tag.js", { text: entityTag, type: SCRIPT }],
    ["tutorial.css", { text: tutorialStyle, type: "text/css; charset=utf-8" }],
    ["tutorial.js", { text: tutorial, type: SCRIPT }],
  ]),
  head: `<link rel="stylesheet" href="dashboard/tutorial.css">
    <script src="dashboard/tutorial.js" type="module"></script>`,
  nav: `<nav aria-label="Elsewhere">
        <a href="/docs">API</a>
        <a href="/openapi.json">OpenAPI</a>
      </nav>`,
  sections: tryIt,
};

/** The style of the description's page, which holds it within. */
export const DOCS_STYLE: string = docs;
