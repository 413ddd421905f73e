/**
 * Whether the process lives, and whether it should get requests.
 *
 * @module
 */
import type { Hono } from "hono";
import { z } from "zod";
import { answer, away, type Paths, UNSTORED } from "./_description.ts";
import { errorContext, type ErrorListener, notReady } from "./_errors.ts";

/** What the routes of health need. */
export interface HealthDependencies {
  /**
   * Whether requests should be sent here: started, not stopping, and the database answers or the cache
   * can stand in for it. Must answer in bounded time; a rejection counts as no.
   */
  readonly ready: () => boolean | Promise<boolean>;
  /** Told when `ready` rejects. */
  readonly onError: ErrorListener;
}

/**
 * Adds the routes of health.
 *
 * - `GET /healthz`: 200 for as long as the process answers at all. It asks nobody else, because a restart
 *   of this process mends neither Postgres nor Redis.
 * - `GET /readyz`: 200 while `ready` says so, else 503, which tells a load balancer to look elsewhere.
 */
export function addHealthRoutes(app: Hono, { ready, onError }: HealthDependencies): void {
  app.get("/healthz", (context) => {
    context.header("cache-control", "no-store");
    return context.json({ status: "ok" });
  });

  app.get("/readyz", async (context) => {
    try {
      if (!await ready()) return notReady();
    } catch (error) {
      const response = notReady();
      onError(error, errorContext(context, response.status));
      return response;
    }
    context.header("cache-control", "no-store");
    return context.json({ status: "ready" });
  });
}

/** Describes the routes of health. */
export function describeHealth(): Paths {
  const Alive = z.object({ status: z.literal("ok") }).meta({ id: "Alive" });
  const Ready = z.object({ status: z.literal("ready") }).meta({ id: "Ready" });
  return {
    "/healthz": {
      get: {
        operationId: "alive",
        summary: "Whether the process is alive",
        tags: ["Service"],
        responses: { 200: answer("It does", Alive, UNSTORED) },
      },
    },
    "/readyz": {
      get: {
        operationId: "ready",
        summary: "Whether the service should get requests",
        tags: ["Service"],
        responses: { 200: answer("It should", Ready, UNSTORED), 503: away("It should not") },
      },
    },
  };
}
