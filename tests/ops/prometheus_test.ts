import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { parser } from "@prometheus-io/lezer-promql";
import { fileURLToPath } from "node:url";
import { connect } from "@db/driver";
import { parse } from "yaml";
import { z } from "zod";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { type Service, startService } from "../../tools/servers/service.ts";
import { requiredEnv } from "../support/test_database.ts";

/** A series that an expression reads, with the labels it asks for. */
interface Selector {
  readonly name: string;
  readonly labels: readonly { readonly name: string; readonly value: string | undefined }[];
}

const Alerts = z.object({
  groups: z.array(z.strictObject({
    name: z.string(),
    rules: z.array(z.strictObject({
      alert: z.string().regex(/^Lookaside[A-Z]/),
      expr: z.string(),
      for: z.string().regex(/^\d+[smh]$/).optional(),
      labels: z.strictObject({ severity: z.enum(["critical", "warning"]) }),
      annotations: z.strictObject({ summary: z.string(), description: z.string() }),
    })),
  })),
});

const Dashboard = z.object({
  panels: z.array(z.object({
    id: z.int(),
    title: z.string(),
    gridPos: z.object({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
    targets: z.array(z.object({ expr: z.string() })).min(1),
  })),
});

const ops = fileURLToPath(new URL("../../ops/", import.meta.url));
const alerts = Alerts.parse(parse(await Deno.readTextFile(`${ops}alerts.yml`)))
  .groups.flatMap(({ rules }) => rules);
const { panels } = Dashboard.parse(
  JSON.parse(await Deno.readTextFile(`${ops}grafana-dashboard.json`)),
);
const shown = panels.flatMap(({ title, targets }) =>
  targets.map(({ expr }) => ({ where: `panel ${title}`, expr }))
);
const watched = alerts.map(({ alert, expr }) => ({ where: `alert ${alert}`, expr }));

/** Labels that Prometheus adds. */
const added = new Set(["instance", "job"]);

describe("the alerts and the dashboard, of a service under way", () => {
  const stack = new AsyncDisposableStack();
  let series: readonly Selector[];

  beforeAll(async () => {
    const database = stack.use(await createSeededDatabase(10));
    const service = stack.use(
      await startService({
        env: {
          ...serviceEnv(database.url),
          CACHE_AUDIT_RATIO: "1",
          ADMIN_RATE_LIMIT: "0",
        },
      }),
    );
    // That a target answers is Prometheus's to say.
    series = [...await scrape(service), { name: "up", labels: [] }];
  });
  afterAll(async () => await stack.disposeAsync());

  for (const { where, expr } of [...watched, ...shown]) {
    it(`${where} reads series that are there: ${expr}`, () => {
      const selectors = selectorsOf(expr);
      assert(selectors.length > 0);
      for (const selector of selectors) {
        assert(series.some((each) => isMatch(selector, each)), JSON.stringify(selector));
      }
    });
  }

  it("leave no metric without a place in the dashboard", () => {
    const places = new Set(shown.flatMap(({ expr }) => selectorsOf(expr).map(({ name }) => name)));
    assertEquals(
      series.map(({ name }) => name).filter((name) => name !== "up" && !places.has(name)),
      [],
    );
  });

  it("would be found out if a name, a label or its value were wrong", () => {
    for (
      const [expr, there] of [
        ['sum(rate(lookaside_hits_total{tier="memory"}[5m]))', true],
        ["lookaside_hits", false],
        ['lookaside_hits_total{tier="disk"}', false],
        ['lookaside_hits_total{level="memory"}', false],
      ] as const
    ) {
      const found = selectorsOf(expr).every((one) => series.some((each) => isMatch(one, each)));
      assertEquals(found, there, expr);
    }
  });
});

describe("a service without its cache", () => {
  it("sets off no alert that tells of the cache's feed and relay", async () => {
    await using database = await createSeededDatabase(10);
    await using service = await startService({
      env: {
        REDIS_URL: requiredEnv("REDIS_URL"),
        DATABASE_URL: database.url,
        CACHE: "off",
        CHANGES_POLL_MS: "50",
      },
    });
    await using other = connect({ url: database.url, poolMax: 1 });
    for (let id = 1; id <= 5; id++) {
      await other.query("UPDATE users SET name = $1 WHERE id = $2", ["changed", id]);
    }
    const text = await (await service.fetch("/metrics")).text();
    for (
      const sample of ["coherent 1", 'breaker_state{state="open"} 0', "pending_invalidations 0"]
    ) {
      assertMatch(text, new RegExp(`^lookaside_${RegExp.escape(sample)}$`, "m"));
    }
    assert(!/^lookaside_(relay|outbox|database)_/m.test(text));
  });
});

describe("the alerts, under the faults that they are for,", () => {
  const redisAlerts = ["LookasideRedisDown", "LookasideBreakerOpen", "LookasideIncoherent"];

  for (const fault of ["killed", "hung"] as const) {
    it(`tell of a Redis that is ${fault}, while it is read and after a write, and of its return`, async () => {
      await using redis = await startRedis();
      await using database = await createSeededDatabase(100);
      await using service = await startService({
        env: {
          REDIS_URL: redis.serviceUrl,
          DATABASE_URL: database.url,
          ADMIN_RATE_LIMIT: "0",
          CACHE_FALLBACK: fault === "killed" ? "off" : "on",
        },
      });
      await scrape(service);
      assertEquals(await holding(service), []);
      if (fault === "killed") await redis.kill();
      else redis.pause();
      let id = 1;
      const read = async () => {
        await (await service.fetch(`/users/${id++ % 100 + 1}`)).body?.cancel();
      };
      // With the fallback memory may be used again.
      const expected = fault === "killed" ? redisAlerts : ["LookasideBreakerOpen"];
      await eventually(async () => {
        await read();
        const now = await holding(service);
        assertEquals(expected.filter((alert) => !now.includes(alert)), []);
      });
      // From here on: while reads alone come, the state must not flap.
      let open = 0;
      for (let look = 0; look < 20; look++) {
        await read();
        if ((await holding(service)).includes("LookasideBreakerOpen")) open++;
      }
      assertEquals(open, 20);
      const write = await service.fetch("/users/1", { method: "DELETE" });
      await write.body?.cancel();
      assert((await holding(service)).includes("LookasidePendingInvalidations"));
      if (fault === "killed") await redis.start();
      else redis.resume();
      await eventually(async () => {
        await read();
        assertEquals(await holding(service), []);
      }, { deadlineMs: 20_000 });
    });
  }

  it("tell of a Redis that refuses to invalidate, and of its end", async () => {
    await using redis = await startRedis();
    await using database = await createSeededDatabase(1);
    await using service = await startService({
      env: { REDIS_URL: redis.serviceUrl, DATABASE_URL: database.url, ADMIN_RATE_LIMIT: "0" },
    });
    await eventually(async () => assertEquals(await holding(service), []));
    await redis.cli("ACL", "SETUSER", "lookaside", "-unlink");
    const write = await service.fetch("/users/1", { method: "DELETE" });
    await write.body?.cancel();
    await eventually(async () => {
      assertEquals(await holding(service), ["LookasideFallback", "LookasidePendingInvalidations"]);
    });
    await redis.cli("ACL", "SETUSER", "lookaside", "+unlink");
    await eventually(async () => assertEquals(await holding(service), []));
  });

  it("tell of a Postgres that is away", async () => {
    const DATABASE_URL = `postgres://postgres@127.0.0.1:${freePort()}/x`;
    await using service = await startService({
      env: { REDIS_URL: "memory:", DATABASE_URL, ADMIN_RATE_LIMIT: "0" },
      readyPath: "/healthz",
    });
    await eventually(async () =>
      assert((await holding(service)).includes("LookasideDatabaseDown"))
    );
  });
});

/** The alerts whose condition compares one series with a number, and holds now. */
async function holding(service: Service): Promise<string[]> {
  const text = await (await service.fetch("/metrics")).text();
  const values = new Map(
    text.split("\n").filter((line) => !line.startsWith("#")).map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))] as const;
    }),
  );
  return alerts.flatMap(({ alert, expr }) => {
    const [, series, operator, bound] = /^(\w+(?:\{[^}]*\})?) (==|>) ([\d.]+)$/.exec(expr) ?? [];
    const value = values.get(series ?? "");
    if (value === undefined) return [];
    return (operator === "==" ? value === Number(bound) : value > Number(bound)) ? [alert] : [];
  });
}

describe("alerts.yml", () => {
  it("names each alert once", () => {
    assertEquals(new Set(alerts.map(({ alert }) => alert)).size, alerts.length);
  });
});

describe("grafana-dashboard.json", () => {
  it("gives each panel an id and a place of its own", () => {
    assertEquals(new Set(panels.map(({ id }) => id)).size, panels.length);
    const taken = new Set<string>();
    for (const { title, gridPos: { x, y, w, h } } of panels) {
      assert(x + w <= 24, title);
      for (let cell = 0; cell < w * h; cell++) {
        const place = `${x + cell % w},${y + Math.floor(cell / w)}`;
        assert(!taken.has(place), `${title} at ${place}`);
        taken.add(place);
      }
    }
  });
});

/** What a scrape holds, once the cache is in use. */
async function scrape(service: Service): Promise<Selector[]> {
  return await eventually(async () => {
    const response = await service.fetch("/metrics");
    const text = await response.text();
    assertEquals(response.status, 200, text);
    assertMatch(text, /^lookaside_coherent 1$/m);
    return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => line.slice(0, line.lastIndexOf(" "))).flatMap(selectorsOf);
  });
}

/** What an expression of PromQL reads. Fails if it is none. */
function selectorsOf(expr: string): Selector[] {
  // What Grafana puts in before Prometheus sees it.
  const text = expr.replaceAll("$__rate_interval", "5m");
  const found: { name: string; labels: { name: string; value: string | undefined }[] }[] = [];
  parser.parse(text).iterate({
    enter: (node) => {
      const here = text.slice(node.from, node.to);
      assert(!node.type.isError, `${expr} cannot be parsed at ${node.from}`);
      if (node.name === "VectorSelector") {
        found.push({ name: /^\w+/.exec(here)?.[0] ?? "", labels: [] });
      }
      if (node.name === "UnquotedLabelMatcher") {
        const [, name = "", value] = /^(\w+)\s*(?:=\s*"([^"]*)")?/.exec(here) ?? [];
        if (!added.has(name)) found.at(-1)?.labels.push({ name, value });
      }
    },
  });
  return found;
}

/** Whether a series has the name and the labels that are asked for. */
function isMatch(asked: Selector, series: Selector): boolean {
  return asked.name === series.name &&
    asked.labels.every(({ name, value }) =>
      series.labels.some((label) => label.name === name && (value ?? label.value) === label.value)
    );
}
