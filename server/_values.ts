/**
 * Valid texts of variables and their values: numbers, words, URLs, addresses. Messages say what a text must be,
 * and never repeat it, because it may be a secret.
 *
 * @module
 */
import { z } from "zod";
import { parseTopology, type ServerAddress } from "../cache/mod.ts";
import { ParameterError, parsePostgresUrl } from "../db/postgres_url.ts";

const URL_LENGTH_MAX = 2_048;

/** One host, in the form that a permission list can name: no commas, no escapes. */
const HOST_IN_URL = /^(\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9._-]*)$/i;

/** A whole number in decimal digits. */
export function integer(
  min: number,
  max: number,
): z.ZodPipe<z.ZodString, z.ZodTransform<number, string>> {
  return z.string().transform((text, context) => {
    const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    context.addIssue({ code: "custom", message: `must be a whole number from ${min} to ${max}` });
    return z.NEVER;
  });
}

/** Words separated by commas or blanks; empty if the variable is absent. */
export function listOf(
  countMax: number,
  word: RegExp,
  message: string,
): z.ZodDefault<z.ZodPipe<z.ZodString, z.ZodTransform<string[], string>>> {
  return z.string().transform((text, context) => {
    const words = text.split(/[\s,]+/).filter((each) => each !== "");
    if (words.length > 0 && words.length <= countMax && words.every((each) => word.test(each))) {
      return words;
    }
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  }).default([]);
}

/** The path of a file, in the form that a permission list can name. */
export function filePath(): z.ZodString {
  return z.string().regex(/^[^,\p{Cc}]{1,1024}$/u, "must be the path of a file, without commas");
}

/** A decimal fraction from 0 to 1. */
export function ratio(): z.ZodPipe<z.ZodString, z.ZodTransform<number, string>> {
  return z.string().transform((text, context) => {
    const value = /^[0-9]*\.?[0-9]+$/.test(text) ? Number(text) : NaN;
    if (value >= 0 && value <= 1) return value;
    context.addIssue({ code: "custom", message: "must be a number from 0 to 1" });
    return z.NEVER;
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
  return urlText().refine(isTopology, `must be a URL: ${forms}`);
}

function urlText(): z.ZodString {
  return z.string().max(URL_LENGTH_MAX, `must be at most ${URL_LENGTH_MAX} characters`);
}

function isTopology(url: string): boolean {
  try {
    parseTopology(url);
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

/** A limited number of `host:port`, separated by commas. */
export function addresses(
  countMax: number,
): z.ZodPipe<z.ZodString, z.ZodTransform<ServerAddress[], string>> {
  return z.string().transform((text, context) => {
    const each = text.split(",").map((address) => address.trim());
    const plain = each.every((address) =>
      /^[^@/]+:[0-9]+$/.test(address) && isTopology(`redis://${address}`)
    );
    if (plain && each.length <= countMax) {
      return each.flatMap((address) => {
        const topology = parseTopology(`redis://${address}`);
        return topology.kind === "memory" ? [] : topology.servers;
      });
    }
    const message = `must be host:port, at most ${countMax} of them, with commas between`;
    context.addIssue({ code: "custom", message });
    return z.NEVER;
  });
}
