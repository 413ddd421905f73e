/**
 * Runs the handlers of a request that has been answered already.
 *
 * @module
 */
import type { Context, MiddlewareHandler } from "hono";

/** The property under which Hono keeps the handler of a sub-app that has an `onError` of its own. */
const WRAPPED = "__COMPOSED_HANDLER";

/** The class of contexts, which Hono exports as a type only. */
interface ContextClass {
  new (request: Request, options: {
    readonly env: unknown;
    readonly notFoundHandler: () => Response | Promise<Response>;
  }): Context;
}

/**
 * Answers the response of the handlers that follow `middleware`, in a context of their own. `next()` would not
 * do: once the request is answered, Hono drops the response of the handlers, and the headers that they set become
 * part of the response that is on its way.
 *
 * @returns `undefined` if it is unknown which handlers follow, as inside Hono's `every()` and `some()`.
 */
export async function responseApart(
  context: Context,
  middleware: MiddlewareHandler,
): Promise<Response | undefined> {
  const { matchedRoutes: routes, routeIndex } = context.req;
  if (unwrapped(routes[routeIndex]?.handler) !== middleware) return undefined;
  const own = copyOf(context);
  const dispatch = async (at: number): Promise<void> => {
    const route = routes[at];
    if (route !== undefined) own.req.routeIndex = at;
    const response = route === undefined
      ? own.finalized ? undefined : await own.notFound()
      : await route.handler(own, () => dispatch(at + 1));
    if (response !== undefined && !own.finalized) own.res = response;
  };
  await dispatch(routeIndex + 1);
  return own.res;
}

/** A context for the same request, with the same variables and without a response. */
function copyOf(context: Context): Context {
  const Contexts = context.constructor as unknown as ContextClass;
  const own = new Contexts(context.req.raw, {
    env: context.env,
    notFoundHandler: () => context.notFound(),
  });
  Object.defineProperties(own, {
    req: { value: context.req },
    executionCtx: { get: () => context.executionCtx },
    event: { get: () => context.event },
  });
  for (const [name, value] of Object.entries(context.var)) own.set(name, value);
  return own;
}

function unwrapped(handler: unknown): unknown {
  let inner = handler;
  while (typeof inner === "function" && WRAPPED in inner) inner = inner[WRAPPED];
  return inner;
}
