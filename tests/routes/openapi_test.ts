import { assert, assertEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Validator } from "@seriousme/openapi-schema-validator";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { z } from "zod";
import { DeclarationError } from "../../db/table_shape.ts";
import { resource } from "../../routes/resource.ts";
import { openTables } from "../../routes/table.ts";
import { cases, closed, user } from "./_described_cases.ts";
import { type Api, createApi } from "./api_fixture.ts";

interface Described {
  readonly required: boolean;
  readonly schema: object;
}

interface Operation {
  readonly security?: readonly object[];
  readonly responses: Readonly<
    Record<string, {
      readonly headers?: Readonly<Record<string, Described>>;
      readonly content?: Readonly<Record<string, { readonly schema: object }>>;
    }>
  >;
}

interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: object;
  readonly info: { readonly version: string };
}

describe("GET /openapi.json", () => {
  let api: Api;
  let description: ApiDocument;

  beforeAll(async () => {
    api = createApi();
    description = await (await api.send("/openapi.json")).json();
  });
  afterAll(async () => await api[Symbol.asyncDispose]());

  it("is valid OpenAPI 3.1", async () => {
    const { valid, errors } = await new Validator().validate({ ...description });
    assert(valid, JSON.stringify(errors));
  });

  it("describes every route of the app, and no other", () => {
    const routed = api.routes.map(({ method, path }) =>
      `${method.toLowerCase()} ${path.replace(/:(\w+)/g, "{$1}")}`
    );
    assertEquals(operations(description).map(([name]) => name).sort(), [...new Set(routed)].sort());
  });

  it("has no schema whose name a table may take", async () => {
    await using bare = createApi({ tables: [] });
    const { components } = await (await bare.send("/openapi.json")).json();
    const none = { query: () => Promise.reject(new Error("It was asked")) };
    for (const id of Object.keys(components.schemas)) {
      const taken = resource("taken", { row: z.object({ id: z.int() }).meta({ id }) });
      assertThrows(() => openTables([taken], none), DeclarationError, `another ${id}`);
    }
  });

  it("says the version of the package", async () => {
    const { version } = JSON.parse(await Deno.readTextFile("deno.json"));
    assertEquals(description.info.version, version);
  });

  it("shows which operations stand behind the guard", async () => {
    await using guarded = createApi(closed);
    for (const [name, { security }] of operations(description)) {
      const [method = "", path = ""] = name.split(" ");
      const { status } = await guarded.send(path.replace("{id}", "1"), {
        method: method.toUpperCase(),
      });
      assertEquals(security, status === 403 ? [{ adminToken: [] }] : undefined, name);
    }
  });

  it("holds the bounds that requests are validated with", async () => {
    const text = JSON.stringify(description);
    for (const bound of ['"maximum":2147483647', '"maximum":100', '"maxLength":100']) {
      assert(text.includes(bound), bound);
    }
    const validate = schemaValidator(description, { $ref: "#/components/schemas/UserBody" });
    for (
      const [body, good] of [[user, true], [{ name: "Ada" }, false], [{ ...user, id: 1 }, false]]
    ) {
      assertEquals(validate(body), good, JSON.stringify(body));
      const { status } = await api.send("/users/1", { method: "PUT", body });
      assertEquals(status === 200, good);
    }
  });

  it("tells of parameters that are not described, except where they may stand for nothing", async () => {
    const lenient = ["/", "/dashboard/{file}", "/docs", "/openapi.json", "/healthz", "/readyz"];
    for (const [name] of operations(description)) {
      const [method = "", path = ""] = name.split(" ");
      await using fresh = createApi();
      const target = path.replace("{id}", "1").replace("{key}", "users:1")
        .replace("{file}", "main.js");
      const init = method === "get" ? {} : { method: method.toUpperCase(), body: user };
      const { status } = await fresh.send(`${target}?dry_run=1`, init);
      assertEquals(status, lenient.includes(path) ? 200 : 400, name);
      assertEquals([fresh.users.calls, fresh.cache.calls], [[], []], name);
      assertEquals((await fresh.send(`${target}?`, init)).status < 400, true, name);
    }
  });

  for (const [name, requests] of Object.entries(cases)) {
    describe(name, () => {
      for (const request of requests) {
        const { path, expect } = request;
        it(`describes ${path} answered ${expect}`, async () => {
          await using made = createApi(request.api);
          await request.prepare?.(made);
          const response = await made.send(path, request);
          assertEquals(response.status, expect);
          await assertDescribed(response, find(description, name), description);
        });
      }
    });
  }

  it("names no status that no request of these is answered", () => {
    for (const [name, { responses }] of operations(description)) {
      const seen = new Set(cases[name]?.map(({ expect }) => `${expect}`));
      assertEquals(Object.keys(responses).sort(), [...seen].sort(), name);
    }
  });

  it("is not satisfied by an answer that holds more, less or something else", async () => {
    const operation = find(description, "get /users/{id}");
    const good = await api.send("/users/1");
    const body = await good.json();
    for (
      const wrong of [
        { ...body, more: 1 },
        { ...body, data: { ...body.data, id: "1" } },
        { source: "cache", data: body.data },
      ]
    ) {
      const response = new Response(JSON.stringify(wrong), { headers: good.headers });
      assert(await isRefused(() => assertDescribed(response, operation, description)));
    }
    const bare = new Response(JSON.stringify(body), {
      headers: { "content-type": "application/json" },
    });
    assert(await isRefused(() => assertDescribed(bare, operation, description)));
  });
});

describe("GET /docs", () => {
  it("shows every operation and schema, and needs nothing but itself", async () => {
    await using api = createApi();
    const description: ApiDocument = await (await api.send("/openapi.json")).json();
    const answer = await api.send("/docs");
    const page = await answer.text();
    for (const [name] of operations(description)) {
      const [method = "", path = ""] = name.split(" ");
      assert(page.includes(`${method.toUpperCase()}</span><code>${path}<`), name);
    }
    const ids = new Set([...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
    for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) assert(ids.has(target), target);
    const outside =
      /<(script|link|img|iframe|form)|\bsrc=|url\(|@import|href="(?!#|\/openapi\.json|\/")/;
    assertEquals(outside.exec(page)?.[0], undefined);
    assertEquals(answer.headers.get("content-type"), "text/html; charset=utf-8");
  });

  it("shows commands for the place at which it is read, and for no other", async () => {
    await using api = createApi();
    for (
      const [host, named] of [
        ["127.0.0.1:8123", "http://127.0.0.1:8123/users/1"],
        ["localhost", "http://localhost/users/1"],
      ]
    ) {
      const answer = await api.send(`http://${host}/docs`);
      assert((await answer.text()).includes(`<pre>curl ${named}</pre>`), host);
    }
    assertEquals((await api.send("http://$(reboot)/docs")).status, 400);
  });

  it("is allowed its own style and nothing else", async () => {
    await using api = createApi();
    const answer = await api.send("/docs");
    const style = /<style>([^]*)<\/style>/.exec(await answer.text())?.[1] ?? "";
    const hash = new Uint8Array(
      await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style)),
    );
    assertEquals(
      answer.headers.get("content-security-policy"),
      `default-src 'none'; style-src 'sha256-${hash.toBase64()}'; ` +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
  });
});

function operations({ paths }: ApiDocument): [name: string, operation: Operation][] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [
      `${method} ${path}`,
      operation,
    ])
  );
}

function find(description: ApiDocument, name: string): Operation {
  const found = operations(description).find(([each]) => each === name);
  assert(found !== undefined, `${name} is not described`);
  return found[1];
}

/** Fails unless the answer's status, media type, body and headers are as they are described. */
async function assertDescribed(
  response: Response,
  { responses }: Operation,
  description: ApiDocument,
): Promise<void> {
  const described = responses[response.status];
  assert(described !== undefined, `${response.status} is not described`);
  for (const [name, { required, schema }] of Object.entries(described.headers ?? {})) {
    const value = response.headers.get(name);
    assert(value !== null || !required, `${name} is missing`);
    if (value !== null) assertMatches(description, schema, value);
  }
  const text = await response.text();
  const [type = ""] = (response.headers.get("content-type") ?? "").split(";");
  const content = described.content?.[type];
  if (described.content === undefined) return assertEquals([text, type], ["", ""]);
  assert(content !== undefined, `${type} is not described`);
  assertMatches(description, content.schema, type === "application/json" ? JSON.parse(text) : text);
}

function assertMatches(description: ApiDocument, schema: object, value: unknown): void {
  const validate = schemaValidator(description, schema);
  assert(validate(value), `${JSON.stringify(validate.errors)} in ${JSON.stringify(value)}`);
}

const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
const validators = new WeakMap<object, ValidateFunction>();

/** Compiles each schema once: that takes longer than the request whose answer it validates. */
function schemaValidator({ components }: ApiDocument, schema: object): ValidateFunction {
  const validator = validators.get(schema) ?? ajv.compile({ ...schema, components });
  validators.set(schema, validator);
  return validator;
}

async function isRefused(check: () => Promise<void>): Promise<boolean> {
  try {
    await check();
    return false;
  } catch (_error) {
    return true; // it was
  }
}
