/** A bare Hono route with one ioredis `GET`: what a Redis hit over HTTP is compared with. */
import { Hono } from "hono";
import { Redis } from "ioredis";
import { USER_KEYS, userOfKey } from "../users.ts";

const [port, redisUrl = ""] = Deno.args;
const redis = new Redis(redisUrl, { enableAutoPipelining: true });
for (const key of USER_KEYS) await redis.set(`bare:${key}`, JSON.stringify(userOfKey(key)));
const headers = { "content-type": "application/json" };
const app = new Hono().get("/users/:id", async (context) => {
  const text = await redis.get(`bare:user:${context.req.param("id")}`);
  return context.body(`{"source":"cache","duration":"0.0ms","data":${text}}`, 200, headers);
});

Deno.serve({ hostname: "127.0.0.1", port: Number(port) }, app.fetch);
