import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { z } from "zod";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import type { TestDatabase } from "../support/test_database.ts";

const Value = z.union([
  z.object({ stringValue: z.string() }),
  z.object({ intValue: z.union([z.string(), z.number()]) }),
  z.object({ boolValue: z.boolean() }),
  z.object({ doubleValue: z.number() }),
]);

const Export = z.object({
  resourceSpans: z.array(z.object({
    scopeSpans: z.array(z.object({
      spans: z.array(z.object({
        traceId: z.string(),
        spanId: z.string(),
        parentSpanId: z.string(),
        name: z.string(),
        status: z.object({ code: z.number().optional() }).optional(),
        attributes: z.array(z.object({ key: z.string(), value: Value })),
      })),
    })),
  })),
});

/** A span, as far as the tests look at it. */
interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly failed: boolean;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Takes what a collector would over OTLP/HTTP. */
class Collector implements AsyncDisposable {
  readonly spans: Span[] = [];
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const body = await request.json();
      if (new URL(request.url).pathname === "/v1/traces") this.#take(Export.parse(body));
      return Response.json({});
    },
  );

  /** Where to send to. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** The spans of a request with that path, once all of them have ended. */
  async trace(path: string, ...names: readonly string[]): Promise<Span[]> {
    return await eventually(() => {
      const request = this.spans.findLast(({ attributes }) => attributes["url.path"] === path);
      assert(request !== undefined, `no request to ${path}`);
      const spans = this.spans.filter(({ traceId }) => traceId === request.traceId);
      assertEquals(spans.map(({ name }) => name).sort(), ["GET", ...names].sort());
      return spans;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  #take({ resourceSpans }: z.infer<typeof Export>): void {
    for (const { scopeSpans } of resourceSpans) {
      for (const { spans } of scopeSpans) {
        for (const { attributes, status, ...span } of spans) {
          this.spans.push({
            ...span,
            failed: status?.code === 2,
            attributes: Object.fromEntries(
              attributes.map(({ key, value }) => [key, Object.values(value)[0]]),
            ),
          });
        }
      }
    }
  }
}

describe("the service with OTEL_DENO", () => {
  const stack = new AsyncDisposableStack();
  let collector: Collector;
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    collector = stack.use(new Collector());
    database = stack.use(await createSeededDatabase(10));
    service = stack.use(
      await startService({
        env: {
          ...serviceEnv(database.url),
          OTEL_DENO: "true",
          OTEL_SERVICE_NAME: "lookaside",
          OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
          OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
          OTEL_BSP_SCHEDULE_DELAY: "50",
        },
      }),
    );
    await cacheInUse(service, "/users/10");
  });
  afterAll(() => stack.disposeAsync());

  it("sends a miss as a request, its look-up, the load in that, and the query in that", async () => {
    await get("/users/1");
    const spans = await collector.trace("/users/1", "look-up", "load", "query");
    const [request, lookup, load, query] = ["GET", "look-up", "load", "query"].map((name) =>
      spans.find((span) => span.name === name)
    );
    assertEquals(
      [lookup, load, query].map((span) => span?.parentSpanId),
      [request, lookup, load].map((span) => span?.spanId),
    );
    assertEquals(lookup?.attributes, {
      "lookaside.key": "users:1",
      "lookaside.source": "load",
      "lookaside.stale": false,
    });
    assertEquals(query?.attributes["db.system.name"], "postgresql");
    assertMatch(String(query?.attributes["db.query.text"]), /FROM \S*\busers\b/);
  });

  it("sends a hit as a request and its look-up, with the tier that answered", async () => {
    await get("/users/10");
    const spans = await collector.trace("/users/10", "look-up");
    const lookup = spans.find(({ name }) => name === "look-up");
    assert(["memory", "redis"].includes(String(lookup?.attributes["lookaside.source"])));
  });

  it("sends what is read together as one look-up, with one load for what is missing", async () => {
    await get("/users?ids=2,3,4");
    const spans = await collector.trace("/users", "look-up", "load", "query");
    const counts = ["look-up", "load"].map((name) =>
      Number(spans.find((span) => span.name === name)?.attributes["lookaside.keys"])
    );
    assertEquals(counts, [3, 3]);
  });

  it("marks what failed", async () => {
    await using other = connect({ url: database.url, poolMax: 1 });
    await other.query("ALTER TABLE users RENAME TO gone");
    await get("/users/5", 500);
    const spans = await collector.trace("/users/5", "look-up", "load", "query");
    const failed = spans.filter(({ name, failed }) => failed && name !== "GET");
    assertEquals(failed.map(({ name }) => name).sort(), ["load", "look-up", "query"]);
  });

  async function get(path: string, status = 200): Promise<void> {
    const response = await service.fetch(path);
    await response.body?.cancel();
    assertEquals(response.status, status);
  }
});
