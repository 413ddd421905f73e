/**
 * Reads and validates ids, queries and bodies before anything else happens.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Context } from "hono";
import type { z } from "zod";
import { parseExact, stringifyDigits } from "../db/json_digits.ts";
import {
  bodyNotReceived,
  bodyTooLarge,
  invalid,
  type Issue,
  unsupportedCoding,
  unsupportedMediaType,
} from "./_errors.ts";
import { decoded } from "./_table_keys.ts";
import type { ListQuery, QueryReader } from "./_table_query.ts";

/** The longest body, in bytes. */
const BODY_BYTES_MAX = 64 * 1024;

/** The most arrays and objects within each other: some functions that read a body call themselves for each. */
const DEPTH_MAX = 500;

/** Found in every text with a number that a float cannot hold: it has 16 digits or an exponent. */
const MANY_DIGITS = /[\d.]{16}|\d[eE]/;

/** A parameter may be empty, and clients write UTF-8 in both ways. */
const JSON_MEDIA_TYPE = /^application\/json[\t ]*(?:;[\t ]*(?:charset=("?)utf-?8\1[\t ]*)?)*$/i;

/** The query of a list, or an error response. */
export function parseQuery(context: Context, reader: QueryReader): ListQuery | Response {
  const texts = parametersOf(context, reader.names);
  if (texts instanceof Response) return texts;
  const { data, error } = reader.schema.safeParse(reader.valuesOf(texts));
  return error === undefined ? reader.queryOf(data) : invalid(issuesOf(error));
}

/** Refuses a request with parameters, for a route that has none: what they ask for would not be done. */
export function refuseParameters(context: Context): Response | undefined {
  if (!context.req.url.includes("?")) return undefined;
  const texts = parametersOf(context, []);
  return texts instanceof Response ? texts : undefined;
}

/** The parameters of a request, or an error response: each must be one of `names`, and given once. */
function parametersOf(
  { req: { url } }: Context,
  names: readonly string[],
): ReadonlyMap<string, string> | Response {
  const [, query = ""] = /\?(.*)/s.exec(url) ?? [];
  // URLSearchParams would replace what it cannot decode.
  if (decoded(query) === undefined) {
    return invalid([{ path: "", message: "Expected a query in UTF-8, percent-encoded" }]);
  }
  const expected = names.length === 0
    ? "there are no parameters here"
    : `expected ${new Intl.ListFormat("en-GB", { type: "disjunction" }).format(names)}`;
  const texts = new Map<string, string>();
  const issues: Issue[] = [];
  for (const [name, text] of new URLSearchParams(query)) {
    if (!names.includes(name)) issues.push({ path: name, message: `Unknown: ${expected}` });
    else if (texts.has(name)) issues.push({ path: name, message: "Given more than once" });
    texts.set(name, text);
  }
  return issues.length > 0 ? invalid(issues) : texts;
}

/** The body as `schema` describes it, or an error response. */
export async function parseBody<T extends object>(
  context: Context,
  schema: z.ZodType<T>,
): Promise<T | Response> {
  const { headers, body } = context.req.raw;
  if (!JSON_MEDIA_TYPE.test(headers.get("content-type") ?? "")) return unsupportedMediaType();
  const coding = headers.get("content-encoding") ?? "identity";
  if (coding.toLowerCase() !== "identity") return unsupportedCoding();
  if (Number(headers.get("content-length")) > BODY_BYTES_MAX) return bodyTooLarge(BODY_BYTES_MAX);
  const text = await readText(body);
  if (text instanceof Response) return text;
  const json = text === undefined ? undefined : parseJson(text);
  if (text === undefined || json === undefined) {
    return invalid([{ path: "", message: "Expected JSON in UTF-8" }]);
  }
  if (isDeeper(json, DEPTH_MAX)) {
    return invalid([{ path: "", message: `Expected at most ${DEPTH_MAX} levels` }]);
  }
  // A column may be called `constructor`, which every object with a prototype seems to have.
  if (json instanceof Object) Object.setPrototypeOf(json, null);
  const { data, error } = await schema.safeParseAsync(json);
  if (error !== undefined) return invalid(issuesOf(error));
  return withDigits(data, json, text);
}

/**
 * The valid fields. Those that their schema left as they were keep the digits that a float cannot hold: Postgres
 * may have a column for them.
 */
function withDigits<T extends object>(fields: T, given: unknown, text: string): T {
  if (!MANY_DIGITS.test(text)) return fields;
  const before = new Map<string, unknown>(Object.entries(Object(given)));
  const exact = new Map<string, unknown>(Object.entries(Object(parseExact(text))));
  const kept = Object.entries(fields).filter(([name, value]) =>
    before.has(name) && stringifyDigits(value) === stringifyDigits(before.get(name))
  );
  return { ...fields, ...Object.fromEntries(kept.map(([name]) => [name, exact.get(name)])) };
}

/**
 * The text of a body, or an error response; `undefined`: it is not in UTF-8. Replaces `hono/body-limit`, which makes a
 * new request from the text: that touches the request's signal, and Deno then logs a warning about the signal.
 */
async function readText(
  body: ReadableStream<Uint8Array> | null,
): Promise<string | Response | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of body ?? []) {
      size += chunk.byteLength;
      if (size > BODY_BYTES_MAX) return bodyTooLarge(BODY_BYTES_MAX);
      chunks.push(chunk);
    }
  } catch (_error) {
    // The client sent no more, or the service stops: not a defect.
    return bodyNotReceived();
  }
  try {
    // `fatal`: invalid UTF-8 must not be stored as replacement characters.
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch (_error) {
    return undefined;
  }
}

/** The JSON value in a text. `undefined`: there is none. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** True if arrays and objects are within each other on more than so many levels. */
function isDeeper(json: unknown, levels: number): boolean {
  if (typeof json !== "object" || json === null) return false;
  return levels === 0 || Object.values(json).some((part) => isDeeper(part, levels - 1));
}

function issuesOf(error: z.ZodError): Issue[] {
  return error.issues.flatMap((issue) => {
    const path = issue.path.join(".");
    if (issue.code !== "unrecognized_keys") return [{ path, message: issue.message }];
    return issue.keys.map((key) => ({ path: key, message: "Unknown field" }));
  });
}
