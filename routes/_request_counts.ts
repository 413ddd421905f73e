/**
 * Counts answered requests by method, route and status.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import { getPath } from "hono/utils/url";

/** The number of answered requests of one kind. */
export interface RequestCount {
  /** `GET` and so on; `other` for methods that no route has. */
  readonly method: string;
  /** The route's path, as `/users/:id`; `other` for a path without a route. */
  readonly route: string;
  /** The status of the answer. */
  readonly status: number;
  /** The number of requests. */
  readonly count: number;
}

type Fetch = Hono["fetch"];

/** A client may send any word as a method: unknown ones share a count. */
const OTHER = "other";

/** The answers of one route to one method, by status. */
export class AnswerCounts {
  readonly #counts = new Map([[200, 0]]);
  /** Separate because nearly all are 200: then counting is one addition. */
  #ok = 0;

  /** Counts an answer and returns it. */
  noted(response: Response): Response {
    this.note(response.status);
    return response;
  }

  /** Counts an answer. */
  note(status: number): void {
    if (status === 200) this.#ok++;
    else this.#counts.set(status, (this.#counts.get(status) ?? 0) + 1);
  }

  /** The counts, by status. */
  byStatus(): Map<number, number> {
    return new Map(this.#counts).set(200, this.#ok);
  }
}

interface Route {
  readonly path: string;
  /** The text before the parameter at its end, if it ends in one. */
  readonly prefix: string | undefined;
  readonly methods: Map<string, AnswerCounts>;
  /** True if its GET handler counts its own answers. */
  countsReads: boolean;
}

/** Counts of all routes of an app. Limited by the number of its routes, methods and statuses. HEAD counts as GET. */
export class RequestCounts {
  readonly #exact = new Map<string, Route>();
  readonly #prefixes: Route[] = [];
  readonly #other: Route = {
    path: OTHER,
    prefix: undefined,
    methods: new Map(),
    countsReads: false,
  };
  readonly #methods = new Set(["OPTIONS"]);

  /**
   * The counts of a route with a frequently called GET, whose handler must count its own answers. For such a
   * route {@linkcode RequestCounts.around} only looks at the URL, and nothing waits.
   */
  reads(path: string): AnswerCounts {
    const route = this.#routeAt(path);
    route.countsReads = true;
    return this.#countsOf(route, "GET");
  }

  /**
   * Notes an answer for such a GET that its handler did not make: to an error, or to a path that is not exactly
   * its own.
   */
  noteForRead({ req }: Context, status: number): void {
    const route = this.#routeOf(req.url);
    if (req.method === "GET" && route.countsReads) this.#countsOf(route, "GET").note(status);
  }

  /** Notes the answer to a request that has no route, because it has no valid URL. */
  noteWithoutRoute(method: string, status: number): void {
    this.#countsFor(this.#other, method).note(status);
  }

  /**
   * Counts the answers of `fetch` for all these routes. Each count begins at 0, so that a rate shows the first
   * request.
   */
  around(fetch: Fetch, routes: Hono["routes"]): Fetch {
    for (const { method, path } of routes) {
      if (method === "ALL") continue;
      this.#methods.add(method);
      this.#countsOf(this.#routeAt(path), method);
    }
    return (request, env, executionContext) => {
      const answering = fetch(request, env, executionContext);
      const route = this.#routeOf(request.url);
      const method = request.method === "HEAD" ? "GET" : request.method;
      if (route.countsReads && method === "GET") return answering;
      const counts = this.#countsFor(route, method);
      // Counted in the background, so that the answer does not wait.
      if (answering instanceof Response) counts.noted(answering);
      else answering.then((response) => counts.noted(response), ignore);
      return answering;
    };
  }

  /** The counts so far. */
  all(): RequestCount[] {
    return [...this.#exact.values(), ...this.#prefixes, this.#other].flatMap(({ path, methods }) =>
      [...methods].flatMap(([method, counts]) =>
        [...counts.byStatus()].map(([status, count]) => ({ method, route: path, status, count }))
      )
    );
  }

  #routeOf(url: string): Route {
    // As the router reads it. A path without escapes can be looked at in place.
    if (url.includes("%")) return this.#routeFrom(getPath(new Request(url)), 0);
    return this.#routeFrom(url, url.indexOf("/", "http://".length));
  }

  #routeFrom(url: string, start: number): Route {
    for (const route of this.#prefixes) {
      if (url.startsWith(route.prefix ?? "", start)) return route;
    }
    const end = url.indexOf("?", start);
    return this.#exact.get(url.slice(start, end < 0 ? undefined : end)) ?? this.#other;
  }

  #routeAt(path: string): Route {
    const end = path.indexOf(":");
    const known = this.#exact.get(path) ?? this.#prefixes.find((route) => route.path === path);
    if (known !== undefined) return known;
    const prefix = end < 0 ? undefined : path.slice(0, end);
    const route: Route = { path, prefix, methods: new Map(), countsReads: false };
    if (prefix === undefined) this.#exact.set(path, route);
    else this.#prefixes.push(route);
    return route;
  }

  #countsFor(route: Route, method: string): AnswerCounts {
    return this.#countsOf(route, this.#methods.has(method) ? method : OTHER);
  }

  #countsOf({ methods }: Route, method: string): AnswerCounts {
    let counts = methods.get(method);
    if (counts === undefined) methods.set(method, counts = new AnswerCounts());
    return counts;
  }
}

function ignore(): void {
  // The caller of `fetch` gets the error.
}
