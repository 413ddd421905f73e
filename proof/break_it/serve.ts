import { Hono } from "hono";
import { BreakIt, type Surroundings } from "./break_it.ts";

const FILES: Readonly<Record<string, string>> = {
  "panel.js": "text/javascript; charset=utf-8",
  "panel.css": "text/css; charset=utf-8",
};

/**
 * Serves the panel and its buttons until it is disposed of. Nothing runs before it is requested. The path of the
 * address is a secret that permits the use of the buttons.
 */
export function serveBreakIt(
  { hostname, port, pathname }: URL,
  surroundings: Surroundings,
): AsyncDisposable {
  const breakIt = new BreakIt(surroundings);
  const app = new Hono().basePath(pathname);
  app.get("/state", async (context) => context.json(await breakIt.state()));
  app.post("/:deed", async ({ json, req }) => json({ text: await breakIt.act(req.param("deed")) }));
  app.get("/:file", async (context) => {
    const name = context.req.param("file");
    const type = FILES[name];
    if (type === undefined) return context.notFound();
    const text = await Deno.readTextFile(new URL(name, import.meta.url));
    return context.body(text, 200, { "content-type": type });
  });
  const options = { hostname, port: Number(port), onListen: () => undefined };
  const server = Deno.serve(options, app.fetch);
  return {
    async [Symbol.asyncDispose]() {
      await Promise.all([server.shutdown(), breakIt[Symbol.asyncDispose]()]);
    },
  };
}
