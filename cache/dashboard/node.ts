/**
 * Connects a Node server to an app that answers a `Request` with a `Response`.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";

/** The part of a Hono app that a server uses. */
export interface FetchApp {
  /** Answers a request. `env` describes the connection, as that of `@hono/node-server` does. */
  fetch(request: Request, env?: unknown): Response | Promise<Response>;
}

/** A `node:http` listener, also usable as an Express handler. */
export type NodeHandler = (request: IncomingMessage, response: ServerResponse) => void;

/**
 * Makes a handler for Express, Connect or `node:http` from a dashboard. Request bodies are not passed on; a
 * dashboard uses none.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { once } from "node:events";
 * import { createServer } from "node:http";
 * import { Cache } from "@lookaside/cache";
 * import { dashboard, nodeHandler } from "@lookaside/cache/dashboard";
 *
 * await using cache = new Cache();
 * const handler = nodeHandler(dashboard(cache, { open: true })); // app.use("/_cache", requireAdmin, handler)
 *
 * const server = createServer(handler).listen(0, "127.0.0.1");
 * await once(server, "listening");
 * const { port } = server.address() as { port: number };
 * const page = await (await fetch(`http://127.0.0.1:${port}/`)).text();
 * assert.match(page, /<title>Lookaside/);
 * server.close();
 * ```
 */
export function nodeHandler(app: FetchApp): NodeHandler {
  return function handle(request, response) {
    answer(app, request, response).catch(() => response.destroy()); // the client is gone, or must retry
  };
}

async function answer(app: FetchApp, incoming: IncomingMessage, outgoing: ServerResponse) {
  const { method = "GET", url = "/", headers } = incoming;
  const asked = new Request(`http://${headers.host ?? "localhost"}${url}`, {
    method,
    headers: Object.entries(headers).flatMap(([name, value = []]) =>
      [value].flat().map((each): [string, string] => [name, each])
    ),
  });
  const { status, headers: answered, body } = await app.fetch(asked, { incoming, outgoing });
  outgoing.statusCode = status;
  outgoing.setHeaders(answered);
  if (body === null) outgoing.end();
  else await pipeline(body, outgoing); // ends the stream if the client has left
}
