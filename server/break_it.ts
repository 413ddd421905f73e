/**
 * What `deno task dev` adds to the dashboard. Nothing else starts the service with it, and without it there
 * is no route.
 *
 * @module
 */
import type { PassOn } from "../routes/dashboard.ts";

/** Argument of the service: where the panel is served, on this machine. */
export const BREAK_IT = "--break-it=";

/** Passes requests on to the panel, where the arguments tell where it is. */
export function breakItIn(args: readonly string[]): PassOn | undefined {
  const url = args.find((each) => each.startsWith(BREAK_IT))?.slice(BREAK_IT.length);
  if (url === undefined) return undefined;
  return async (name, method) => {
    try {
      return await fetch(new URL(encodeURIComponent(name), url), { method });
    } catch {
      return Response.json({ error: "The panel is not up yet" }, { status: 503 });
    }
  };
}
