/**
 * Health: is the process alive, and should it get requests?
 *
 * @module
 */
import type { Hono } from "hono";
import { z } from "zod";
import { answer, away, type Paths, UNSTORED } from "./_description.ts";
import { errorContext, type ErrorListener, notReady } from "./_errors.ts";

/** Dependencies of the health routes. */
export interface HealthDependencies {
  /**
   * Answers true if requests should be sent here: the process has started and is not stopping, and the database
   * answers or the cache can stand in. Must answer in limited time; a rejection counts as false.
   */
  readonly ready: () => boolean | Promise<boolean>;
  /** Called if `ready` rejects. */
  readonly onError: ErrorListener;
}

/**
 * Adds the routes of health.
 *
 * - `GET /healthz`: 200 as long as the process answers. It asks no other server, since a restart of this process
 *   repairs neither Postgres nor Redis.
 * - `GET /readyz`: 200 while `ready` answers true, otherwise 503, so that a load balancer sends requests
 *   elsewhere.
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
