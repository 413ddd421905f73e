/**
 * The description of the API (OpenAPI 3.1): every route with its inputs and responses, as the routes describe
 * themselves.
 *
 * @module
 */
import { createDocument } from "zod-openapi";
import manifest from "../deno.json" with { type: "json" };
import type { Described } from "./_description.ts";

/** A JSON Schema, or a reference to one. */
export type Schema = Readonly<Record<string, unknown>>;

/** Bodies by media type. */
export type Content = Readonly<Record<string, { readonly schema?: Schema }>>;

/** One method at one path. */
export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly description?: string;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Readonly<
    Record<string, {
      readonly description: string;
      readonly content?: Content;
      readonly headers?: Readonly<Record<string, unknown>>;
    }>
  >;
  readonly security?: readonly unknown[];
}

/** The whole description, with the used parts of OpenAPI. */
export interface ApiDocument {
  readonly info: { readonly title: string; readonly description: string };
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const INTRODUCTION = "Rows in PostgreSQL, read through a cache that every write invalidates.\n\n" +
  "HEAD answers wherever GET does, with the same headers. A path without a route is answered 404, " +
  "and a method without one 405 with `Allow`. A query parameter that is not described is " +
  "answered 400, but ignored by pages, their files, this description, `/healthz` and `/readyz`. " +
  "Where a limit on all clients is set, everything but the latter two may be answered 429.";

/** What a declaration may use, and JSON Schema has no word for: any value, then. */
const UNDESCRIBED = Object.fromEntries(
  [
    ...["custom", "function", "literal", "map", "nan", "nonoptional", "pipe", "set", "symbol"],
    ...["transform", "void"],
  ].map((type) => [type, true] as const),
);

/** Makes the description. Takes some milliseconds, so keep it. */
export function describeApi({ paths, tags }: Described): ApiDocument {
  const document: unknown = createDocument({
    openapi: "3.1.1",
    info: {
      title: "Lookaside",
      version: manifest.version,
      description: INTRODUCTION,
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    tags: [
      ...tags,
      { name: "Cache", description: "Statistics of the cache, and ways to empty and fill it" },
      { name: "Service", description: "Health, metrics and description of the service" },
    ],
    paths,
    components: {
      securitySchemes: {
        adminToken: {
          type: "http",
          scheme: "bearer",
          description:
            "`ADMIN_TOKEN`. Where none is set, nobody may, unless `ADMIN_OPEN` says otherwise",
        },
      },
    },
  }, { allowEmptySchema: UNDESCRIBED });
  return document as ApiDocument;
}
