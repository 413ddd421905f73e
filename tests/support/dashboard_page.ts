import { assertEquals } from "@std/assert";

/** Fetches a page and all that it loads, links and imports. Answers the paths, or fails. */
export async function visitAll(
  url: string,
  get: (url: string) => Response | Promise<Response>,
): Promise<string[]> {
  const visited = new Set<string>();
  const visit = async (at: string): Promise<void> => {
    const { href, pathname } = new URL(at);
    if (visited.has(pathname)) return;
    visited.add(pathname);
    const response = await get(href);
    const text = await response.text();
    assertEquals([pathname, response.status], [pathname, 200]);
    const type = response.headers.get("content-type") ?? "";
    const links = type.startsWith("text/html")
      ? text.matchAll(/\b(?:src|href)="([^"#]+)"/g)
      : type.startsWith("text/javascript")
      ? text.matchAll(/^(?:import|} from) .*?"([^"]+)";$/gm)
      : [];
    for (const [, link = ""] of links) await visit(new URL(link, href).href);
  };
  await visit(url);
  return [...visited].sort();
}

/** The first sample of a stream, which ends with it. */
// deno-lint-ignore no-explicit-any -- whatever the stream tells
export async function firstSample(response: Response): Promise<any> {
  assertEquals(response.headers.get("content-type"), "text/event-stream");
  const reader = response.body?.getReader();
  const { value } = await reader?.read() ?? {};
  await reader?.cancel();
  return JSON.parse(new TextDecoder().decode(value).replace(/^data: /, ""));
}

/** The files of the page. */
export const FILES: readonly string[] = [
  "charts",
  "history",
  "inspector",
  "lists",
  "live",
  "main",
  "service",
  "text",
  "tiles",
]
  .map((name) => `${name}.js`).concat("icon.svg", "style.css", "uplot.css", "uplot.js").sort();
