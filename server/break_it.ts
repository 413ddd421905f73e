/**
 * The part that `deno task dev` adds to the dashboard. Only that command starts the service with it; otherwise
 * its routes do not exist.
 *
 * @module
 */
import type { PassOn } from "../routes/dashboard.ts";

/** Argument of the service: the address of the panel, on this machine. */
export const BREAK_IT = "--break-it=";

/** Forwards requests to the panel, if the arguments contain its address. */
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
