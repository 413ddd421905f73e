import { context, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { assertEquals, assertRejects } from "@std/assert";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import { spanned, TracedCache } from "../../../cache/opentelemetry/mod.ts";

const exporter = new InMemorySpanExporter();
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });

/** The spans that have ended, as `name < parent`, in the order of their ends. */
function ended(): string[] {
  const spans = exporter.getFinishedSpans();
  const names = new Map(spans.map((span) => [span.spanContext().spanId, span.name]));
  return spans.map(({ name, parentSpanContext }) => {
    const parent = names.get(parentSpanContext?.spanId ?? "");
    return parent === undefined ? name : `${name} < ${parent}`;
  });
}

function attributes(name: string): ReadableSpan["attributes"] | undefined {
  return exporter.getFinishedSpans().find((span) => span.name === name)?.attributes;
}

describe("TracedCache", () => {
  const manager = new AsyncLocalStorageContextManager();

  beforeAll(() => {
    context.setGlobalContextManager(manager.enable());
    trace.setGlobalTracerProvider(provider);
  });
  afterEach(async () => {
    await provider.forceFlush(); // an export ends by a timer
    exporter.reset();
  });
  afterAll(async () => {
    await provider.shutdown();
    trace.disable();
    context.disable();
    manager.disable();
  });

  it("makes a miss a look-up with its load, and a hit a look-up with the tier", async () => {
    await using cache = new TracedCache();
    const load = () => spanned("query", { attributes: {} }, () => Promise.resolve(1));
    await spanned("request", { attributes: {} }, () => cache.getOrLoad("a", load));
    assertEquals(ended(), ["query < load", "load < look-up", "look-up < request", "request"]);
    assertEquals(attributes("look-up"), {
      "lookaside.key": "a",
      "lookaside.source": "load",
      "lookaside.stale": false,
    });
    exporter.reset();
    await cache.getOrLoad("a", load);
    assertEquals(ended(), ["look-up"]);
    assertEquals(attributes("look-up")?.["lookaside.source"], "memory");
  });

  it("makes keys that are read together one look-up with one load", async () => {
    await using cache = new TracedCache();
    await cache.set("a", 1);
    await cache.getOrLoadMany(["a", "b", "c"], (keys) => {
      return Promise.resolve(new Map(keys.map((key) => [key, 1])));
    });
    assertEquals(ended(), ["load < look-up", "look-up"]);
    assertEquals(["look-up", "load"].map((name) => attributes(name)?.["lookaside.keys"]), [3, 2]);
  });

  it("traces wrapped functions, and reads that get and put apart", async () => {
    await using cache = new TracedCache();
    await cache.wrap("f", (n: number) => Promise.resolve(n))(7);
    assertEquals(ended(), ["load < look-up", "look-up"]);
    assertEquals(attributes("look-up")?.["lookaside.key"], "f:7");
    exporter.reset();
    await (await cache.begin("a")).fill(1);
    assertEquals(attributes("look-up"), { "lookaside.key": "a", "lookaside.hit": false });
    exporter.reset();
    assertEquals((await cache.begin("a")).hit, true);
    assertEquals(attributes("look-up"), { "lookaside.key": "a", "lookaside.hit": true });
  });

  it("tells why a load failed, in its span and that of the look-up", async () => {
    await using cache = new TracedCache();
    const failing = () => Promise.reject(new Error("no such table"));
    await assertRejects(() => cache.getOrLoad("a", failing), Error, "no such table");
    const expected = { code: SpanStatusCode.ERROR, message: "no such table" };
    assertEquals(exporter.getFinishedSpans().map(({ status }) => status), [expected, expected]);
  });

  it("names the library as the scope of its spans", async () => {
    await using cache = new TracedCache();
    await cache.getOrLoad("a", () => Promise.resolve(1));
    const scopes = exporter.getFinishedSpans().map(({ instrumentationScope }) =>
      instrumentationScope.name
    );
    assertEquals(scopes, ["lookaside", "lookaside"]);
  });
});
