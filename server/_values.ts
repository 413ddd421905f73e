/**
 * Valid texts of variables and their values: numbers, words, URLs, addresses. Messages say what a text must be,
 * and never repeat it, because it may be a secret.
 *
 * @module
 */
import { z } from "zod";
import { parseTopology, type ServerAddress, type Topology } from "../cache/mod.ts";
import { ParameterError, parsePostgresUrl } from "../db/postgres_url.ts";

const URL_LENGTH_MAX = 2_048;

/** One host, in the form that a permission list can name: no commas, no escapes. */
const HOST_IN_URL = /^(\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9._-]*)$/i;

/** A text that stands for a value. */
type Parsed<T> = z.ZodPipe<z.ZodString, z.ZodTransform<T, string>>;

/** Reads a text. If `read` answers `undefined`, the text is invalid, and `message` says what it must be. */
function parsed<T>(message: string, read: (text: string) => T | undefined): Parsed<T> {
  return z.string().transform((text, context) => {
    const value = read(text);
    if (value !== undefined) return value;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  });
}

/** A whole number in decimal digits. */
export function integer(min: number, max: number): Parsed<number> {
  return parsed(`must be a whole number from ${min} to ${max}`, (text) => {
    const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : NaN;
    return value >= min && value <= max ? value : undefined;
  });
}

/** Words separated by commas or blanks; empty if the variable is absent. */
export function listOf(
  countMax: number,
  isWord: (text: string) => boolean,
  message: string,
): z.ZodDefault<Parsed<string[]>> {
  return parsed(message, (text) => {
    const words = text.split(/[\s,]+/).filter((each) => each !== "");
    const isCounted = words.length > 0 && words.length <= countMax;
    return isCounted && words.every(isWord) ? words : undefined;
  }).default([]);
}

/** True if browsers send that text as an `Origin`: in lower case, without a path and the scheme's own port. */
export function isOrigin(text: string): boolean {
  return /^https?:[\w.:/[\]-]+$/.test(text) && URL.canParse(text) && new URL(text).origin === text;
}

/** The path of a file, in the form that a permission list can name. */
export function filePath(): z.ZodString {
  return z.string().regex(/^[^,\p{Cc}]{1,1024}$/u, "must be the path of a file, without commas");
}

/** A decimal fraction from 0 to 1. */
export function ratio(): Parsed<number> {
  return parsed("must be a number from 0 to 1", (text) => {
    const value = /^[0-9]*\.?[0-9]+$/.test(text) ? Number(text) : NaN;
    return value >= 0 && value <= 1 ? value : undefined;
  });
}

/** One of these words. */
export function oneOf<const Names extends readonly [string, ...string[]]>(
  names: Names,
): z.ZodEnum<{ [Name in Names[number]]: Name }> {
  return z.enum(names, `must be one of ${names.join(", ")}`);
}

/** The URL of a Postgres: `postgres://host/…`, or `postgres://h1,h2/…`. */
export function postgresUrl(): z.ZodString {
  return urlText().superRefine((text, context) => {
    let message = "must be a URL: postgres://host or postgresql://host, or h1,h2 as the host";
    try {
      const { urls } = parsePostgresUrl(text);
      if (urls.every(({ hostname, port }) => port !== "0" && HOST_IN_URL.test(hostname))) return;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      if (error instanceof ParameterError) message = error.message;
    }
    context.addIssue({ code: "custom", message });
  });
}

/** The URL of a Redis, as {@linkcode parseTopology} reads it. */
export function redisUrl(): z.ZodString {
  const forms = "redis://host, redis-sentinel://h1,h2,h3/name, redis-cluster://h1,h2, " +
    "redis-ring://h1,h2, the same with rediss, or memory:";
  return urlText().refine((url) => topologyOf(url) !== undefined, `must be a URL: ${forms}`);
}

function urlText(): z.ZodString {
  return z.string().max(URL_LENGTH_MAX, `must be at most ${URL_LENGTH_MAX} characters`);
}

function topologyOf(url: string): Topology | undefined {
  try {
    return parseTopology(url);
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** A limited number of `host:port`, separated by commas. */
export function addresses(countMax: number): Parsed<ServerAddress[]> {
  const message = `must be host:port, at most ${countMax} of them, with commas between`;
  return parsed(message, (text) => {
    const given = text.split(",").map((address) => address.trim());
    const read = given.flatMap((address) => {
      if (!/^[^@/]+:[0-9]+$/.test(address)) return [];
      const topology = topologyOf(`redis://${address}`);
      return topology?.kind === "standalone" ? topology.servers : [];
    });
    return read.length === given.length && given.length <= countMax ? read : undefined;
  });
}
