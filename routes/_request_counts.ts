/**
 * Counts the requests that were answered, by method, route and status.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import { getPath } from "hono/utils/url";

/** How many requests of a kind were answered. */
export interface RequestCount {
  /** `GET` and so on; `other` for what no route takes. */
  readonly method: string;
  /** The route's path, as `/users/:id`; `other` for a path without a route. */
  readonly route: string;
  /** What was answered. */
  readonly status: number;
  /** How many. */
  readonly count: number;
}

type Fetch = Hono["fetch"];

/** A client may send any word for a method: those that no route takes share a count. */
const OTHER = "other";

/** The answers of one route to one method, by status. */
export class AnswerCounts {
  readonly #counts = new Map([[200, 0]]);
  /** Apart, because nearly all are: one addition. */
  #ok = 0;

  /** Counts an answer, and gives it back. */
  noted(response: Response): Response {
    this.note(response.status);
    return response;
  }

  /** Counts an answer. */
  note(status: number): void {
    if (status === 200) this.#ok++;
    else this.#counts.set(status, (this.#counts.get(status) ?? 0) + 1);
  }

  /** What was counted, by status. */
  byStatus(): Map<number, number> {
    return new Map(this.#counts).set(200, this.#ok);
  }
}

/** One route. */
interface Route {
  readonly path: string;
  /** What stands before the parameter that it ends in, if it does. */
  readonly prefix: string | undefined;
  readonly methods: Map<string, AnswerCounts>;
  /** Whether its GET counts its own answers. */
  countsReads: boolean;
}

/**
 * Counts of all routes of an app. Bounded: by its routes and methods, and the statuses there are. HEAD
 * counts as the GET that it is.
 */
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
   * The counts of a route whose GET is asked so often that it counts its own answers, which is to note
   * all that it answers itself. Beside it {@linkcode RequestCounts.around} costs it a look at its
   * URL, and nothing waits.
   */
  reads(path: string): AnswerCounts {
    const route = this.#routeAt(path);
    route.countsReads = true;
    return this.#countsOf(route, "GET");
  }

  /** Notes what others have answered for such a GET: to what it threw, to a path that is not quite its own. */
  noteForRead({ req }: Context, status: number): void {
    if (req.method === "GET" && this.#routeOf(req.url).countsReads) this.note(req, status);
  }

  /** Notes the answer to a request that has no route because it has no URL. */
  noteWithoutRoute(method: string, status: number): void {
    this.#countsFor(this.#other, method).note(status);
  }

  /** Notes an answer to a request. */
  note({ method, url }: Pick<Request, "method" | "url">, status: number): void {
    this.#countsFor(this.#routeOf(url), method === "HEAD" ? "GET" : method).note(status);
  }

  /** Counts what `fetch` answers, of all these routes. Each begins at 0, so that a rate shows its first. */
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
      // Beside the answer, which is not held up.
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
    // As the router reads it. Without an escape, the path is there to be looked at in place.
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
  // Whoever asked is told.
}
