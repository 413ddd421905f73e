/**
 * The parts that a description of an API (OpenAPI 3.1) is made of, and how they are made from schemas.
 *
 * The schemas become JSON Schema by zod's own `z.toJSONSchema`, once; no request meets what stands
 * here. `@hono/zod-openapi` and `hono-openapi` describe a route by wrapping its handler: a validator
 * and a chain of handlers in front of every read, where there is one function now.
 *
 * @module
 */
import { z } from "zod";

/** A JSON Schema, or a reference to one. */
export type Schema = Readonly<Record<string, unknown>>;

/** A parameter of a path or a query. */
export interface Parameter {
  /** Its name. */
  readonly name: string;
  /** Where it stands. */
  readonly in: "path" | "query" | "header";
  /** What it is for. */
  readonly description?: string;
  /** Whether a request must have it. */
  readonly required: boolean;
  /** `false`: a list is one value with commas. */
  readonly explode?: false;
  /** What it may be. */
  readonly schema: Schema;
}

/** A header of an answer. */
export interface Header {
  /** What it says. */
  readonly description: string;
  /** Whether it is always there. */
  readonly required: boolean;
  /** What it may be. */
  readonly schema: Schema;
}

/** The bodies that something may have, by media type. */
export type Content = Readonly<Record<string, { readonly schema: Schema }>>;

/** One answer of an operation. */
export interface Answer {
  /** When it is given. */
  readonly description: string;
  /** Its headers, but for `Content-Type`. */
  readonly headers: Readonly<Record<string, Header>>;
  /** Its body; absent: it has none. */
  readonly content?: Content;
}

/** What one method does at one path. */
export interface Operation {
  /** Its name in generated clients. */
  readonly operationId: string;
  /** In a line, what it does. */
  readonly summary: string;
  /** What else there is to know. */
  readonly description?: string;
  /** The group it belongs to. */
  readonly tags: readonly string[];
  /** What path and query may hold. */
  readonly parameters: readonly Parameter[];
  /** What the body must hold. */
  readonly requestBody?: { readonly required: true; readonly content: Content };
  /** Its answers by status. */
  readonly responses: Readonly<Record<string, Answer>>;
  /** Who may. Absent: anyone. */
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[];
}

/** Operations by path and method. */
export type Paths = Readonly<Record<string, Readonly<Record<string, Operation>>>>;

/** The whole description. */
export interface ApiDocument {
  /** The version of OpenAPI. */
  readonly openapi: "3.1.1";
  /** What is described. */
  readonly info: {
    readonly title: string;
    readonly version: string;
    readonly description: string;
    readonly license: { readonly name: string; readonly identifier: string };
  };
  /** Where it is reached. */
  readonly servers: readonly { readonly url: string }[];
  /** The groups of operations, in order. */
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  /** What it does. */
  readonly paths: Paths;
  /** What the rest refers to. */
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly securitySchemes: Readonly<Record<string, Schema>>;
  };
}

const SCHEMAS = "#/components/schemas/";

/** Where the schema of that name stands. */
export function reference(name: string): Schema {
  return { $ref: SCHEMAS + name };
}

/** A body of JSON. */
export function json(name: string): Content {
  return { "application/json": { schema: reference(name) } };
}

/** An answer with that body, or with none. */
export function answer(
  description: string,
  content: Content | undefined,
  headers: Readonly<Record<string, Header>>,
): Answer {
  return { description, headers, ...(content === undefined ? {} : { content }) };
}

/** A header that is always there. */
export function header(description: string, schema: Schema = {}): Header {
  return { description, required: true, schema: { type: "string", ...schema } };
}

/** Schemas by name as JSON Schema, which refer to each other by those names. */
export function namedSchemas(
  named: Readonly<Record<string, z.ZodType>>,
  io: "input" | "output",
): Record<string, Schema> {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { io, uri: (id) => SCHEMAS + id });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema]),
  );
}

/** The parameter of a path that `schema` validates. */
export function pathParameter(name: string, schema: z.ZodType): Parameter {
  const { $schema: _, description, ...rest } = z.toJSONSchema(schema, { io: "input" });
  return { name, in: "path", required: true, ...described(description), schema: rest };
}

/** The parameters of a query that `schema` validates. */
export function queryParameters(schema: z.ZodType): Parameter[] {
  const { properties = {}, required = [] } = z.toJSONSchema(schema, { io: "input" });
  return Object.entries(properties).map(([name, property]) => {
    if (typeof property === "boolean") return { name, in: "query", required: false, schema: {} };
    const { description, ...rest } = property;
    return {
      name,
      in: "query",
      required: required.includes(name),
      ...described(description),
      ...(rest.type === "array" ? { explode: false } : {}),
      schema: rest,
    };
  });
}

function described(description: string | undefined): { readonly description?: string } {
  return description === undefined ? {} : { description };
}
