/** A bare Hono route that returns a constant: what a memory hit over HTTP is compared with. */
import { Hono } from "hono";
import { userOf } from "../users.ts";

const body = JSON.stringify({ source: "cache", duration: "0.0ms", data: userOf(1) });
const headers = { "content-type": "application/json" };
/** As many as the service sends: a route that returns them costs more. */
const sameHeaders = {
  ...headers,
  "cache-control": "no-cache",
  "etag": 'W/"c0f0213b400a89b7"',
  "cache-status": "Lookaside; hit; ttl=301; detail=memory",
};
const app = new Hono()
  .get("/users/:id", (context) => context.body(body, 200, headers))
  .get("/headers/users/:id", (context) => context.body(body, 200, sameHeaders));

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.args[0]) }, app.fetch);
